"""Polish, Czech, Hungarian and Turkish text of one byte a letter is read as it was written; Western text stays Western."""

from __future__ import annotations

import sys
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.files.alphabets import spellings
from erc_graph.data.files.encoding import decode
from erc_graph.data.files.notes import noting

CENTRAL = {
    "Polish": [
        "Cześć, jak się masz? Dziękuję, całkiem dobrze.",
        "Nie mogę znaleźć kluczy i jestem bardzo zły.",
        "Może spróbujesz jeszcze raz, proszę?",
        "Wczoraj było mi smutno, ale dziś już się śmieję.",
        "To niemożliwe, przecież obiecałeś, że przyjdziesz wcześniej!",
        "Gdzie położyłaś książkę, którą ci pożyczyłem?",
    ],
    "Czech": [
        "Promiň, že jdu pozdě, ujel mi vlak.",
        "Dneska mám hroznou náladu a nevím proč.",
        "To je skvělá zpráva, moc ti to přeju!",
        "Kde jsou moje klíče? Hledám je už půl hodiny.",
        "Neboj se, zítra to určitě dopadne líp.",
        "Proč jsi mi to neřekl dřív? Jsem z toho smutná.",
    ],
    "Hungarian": [
        "Sajnálom, hogy későn jöttem, elment a vonatom előlem.",
        "Nagyon örülök, hogy végre sikerült a felvételid!",
        "Miért vagy ilyen dühös? Nem történt semmi szörnyűség.",
        "Az idő gyönyörű, menjünk ki az erdőbe!",
        "Rettenetesen félek a holnapi műtéttől, őszintén szólva.",
        "Köszönöm szépen, nagyon kedves tőled, hogy eljöttél.",
    ],
    "Turkish": [
        "Geç kaldığım için özür dilerim, otobüsü kaçırdım.",
        "Bugün çok mutluyum, sınavı kazandığımı öğrendim!",
        "Neden bana kızgınsın? Hiçbir şey yapmadım.",
        "Anahtarlarımı bulamıyorum, şimdi ağlayacağım.",
        "Yarın görüşürüz, kendine iyi bak canım.",
        "Böyle bir şey söyleyeceğini hiç düşünmemiştim.",
    ],
}
WESTERN = {
    "German": [
        "Es tut mir leid, dass ich so spät komme.",
        "Ich habe überall gesucht, aber die Schlüssel sind weg.",
        "Das ist ja großartig, ich gratuliere dir von Herzen!",
        "Hättest du nicht früher Bescheid sagen können?",
        "Im Café war es schön, aber viel zu laut.",
    ],
    "French": [
        "Je suis désolé d'être en retard, j'ai raté mon train.",
        "Où as-tu mis les clés ? Je les cherche depuis une heure !",
        "C'est une excellente nouvelle, ça me fait très plaisir.",
        "Sa sœur a eu le cœur brisé, la pauvre, mais ça va déjà mieux.",
        "Dès demain, tu verras, tout ira bien, même sans eux.",
    ],
    "Spanish": [
        "Perdón por llegar tarde, se me escapó el autobús.",
        "¿Dónde están mis llaves? ¡No las encuentro en ningún sitio!",
        "¡Qué alegría, enhorabuena por tu título, señorita!",
        "Mañana será otro día, no te pongas así.",
        "¿Tú también lo oíste? Me dio muchísima vergüenza.",
    ],
    "Swedish": [
        "Förlåt att jag är sen, jag missade tåget.",
        "Jag hittar inte mina nycklar någonstans, så jävla typiskt.",
        "Vad roligt, jag blir så glad för din skull!",
        "Varför sa du ingenting förrän nu? Jag är ledsen.",
        "Vi ses på kaféet i morgon, älskling.",
    ],
    "Portuguese": [
        "Desculpe o atraso, perdi o ônibus e não tinha crédito no telemóvel.",
        "Onde você pôs as chaves? Já procurei em todas as gavetas.",
        "Que notícia maravilhosa, estou tão contente por vocês!",
        "As informações não estão lá, só há confusões e ilusões.",
        "Amanhã é outro dia, não fique assim, irmã.",
    ],
}
ENCODING = {"Polish": "cp1250", "Czech": "cp1250", "Hungarian": "cp1250", "Turkish": "cp1254"}
SOME = st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)


def talk(sentences: list[str]) -> str:
    return "\n".join(f"{'Ann' if i % 2 else 'Bob'}: {sentence}" for i, sentence in enumerate(sentences))


@settings(max_examples=20, deadline=None)
@given(order=st.lists(st.integers(0, 5), min_size=3, max_size=6, unique=True))
@pytest.mark.parametrize("language", CENTRAL)
def test_three_sentences_are_enough(language: str, order: list[int]) -> None:
    text = talk([CENTRAL[language][i] for i in order])
    with noting() as notes:
        assert decode(text.encode(ENCODING[language]), "talk.txt") == text
    name = f"Windows-{ENCODING[language][2:]}"
    assert notes == [f"talk.txt: the text is not UTF-8; it is read as {name}, because its words are {language}; check the letters"]


@pytest.mark.parametrize("language", CENTRAL)
def test_two_sentences_are_read_right_or_the_note_names_the_language(language: str) -> None:
    right = 0
    for pair in combinations(CENTRAL[language], 2):
        text = talk(list(pair))
        with noting() as notes:
            same = decode(text.encode(ENCODING[language]), "talk.txt") == text
        assert same or f"its words could also be {language} in Windows-1250" in notes[0], text
        right += same
    assert right >= 13  # of 15


@settings(max_examples=20, deadline=None)
@given(order=SOME)
@pytest.mark.parametrize("language", WESTERN)
def test_western_text_stays_western(language: str, order: list[int]) -> None:
    text = talk([WESTERN[language][i] for i in order])
    with noting() as notes:
        assert decode(text.encode("cp1252"), "talk.txt") == text
    assert notes == ["talk.txt: the text is not UTF-8; it is read as Windows-1252; check the letters"]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_western_languages_beside_one_another_stay_western(data: st.DataObject) -> None:
    chosen = [data.draw(st.sampled_from(sentences)) for sentences in WESTERN.values()]
    text = talk(data.draw(st.permutations(chosen)))
    assert not any(one.sure and one.encoding != "cp1252" for one in spellings(text.encode("cp1252")))
    assert decode(text.encode("cp1252"), "talk.txt") == text


@pytest.mark.parametrize("language", WESTERN)
def test_western_text_needs_no_library(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    for sentence in WESTERN[language]:
        assert decode(sentence.encode("cp1252"), "talk.txt") == sentence


def test_iso_8859_2_is_told_from_windows_1250() -> None:
    for language in ("Polish", "Czech"):
        text = talk(CENTRAL[language])
        assert decode(text.encode("iso8859_2"), "talk.txt") == text


@pytest.mark.parametrize(
    "text",
    [
        "The footnote³ costs £5, 20 m² at 30°; ¿qué? He met Søren in Málaga, and Zoë in Curaçao.",
        "Sigurður and Guðmundur had a naïve idea in São Paulo.",
        "Škvorecký and Žižek met in a café.",
        "“Quotes” – dashes… and a non-breaking space",
        "Perché è così? Però il papà ieri è andato giù in città, e lunedì non c'è più.",
        "Hvað segirðu? Ég týndi lyklunum mínum og er mjög leið yfir því, það er ömurlegt.",
        "Undskyld jeg kommer så sent, toget var aflyst. Hvor er mine nøgler? Jeg er helt ulykkelig, kære ven.",
        "Õhtul läksime välja, aga võtmed jäid koju. Küll ma olen õnnetu.",
    ],
)
def test_names_and_signs_prove_nothing(text: str) -> None:
    assert not [one for one in spellings(text.encode("cp1252")) if one.encoding != "cp1252"]


def test_what_could_be_either_is_said() -> None:
    text = "Ann: Cześć!\nBob: Hello!"
    with noting() as notes:
        decode(text.encode("cp1250"), "talk.txt")
    assert "check the letters" in notes[0] and ("Polish" in notes[0] or "cp1250" in notes[0])
    assert not spellings("Привет, как дела?".encode("cp1251")) and not spellings("“ ”".encode("cp1252"))
