"""Reader of chats exported as text: WhatsApp (iOS and Android, all languages), Signal, Telegram, LINE, KakaoTalk and Discord.

Every message begins with its date and time. In LINE and KakaoTalk, a message may begin with only the time of day; the date is then on a
line above.

WhatsApp marks service messages and media with an invisible character (U+200E) or angle brackets, in every language. Messages without a name
are also service messages. A line without a date continues the previous message, unless it begins with the name of a known speaker.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.names import HEAD, clean, say_cleaned
from erc_graph.data.files.transcripts.talk import Talk, Turn, are, left_out
from erc_graph.data.printable import count, one_line

_DATE = r"(?:\d{1,4}[./-] ?\d{1,2}[./-] ?\d{1,4}\.?|\d{1,2}[ -][A-Z][a-z]{2,8}[ -]\d{2,4}|\d{4}年\d{1,2}月\d{1,2}日)"
_KOREAN = r"\d{4}년 ?\d{1,2}월 ?\d{1,2}일(?: [월화수목금토일]요일)?"
_HALF = r"(?:[AaPp]\. ?[Mm]\.|[AaPp][Mm]|上午|下午|晚上|凌晨|午前|午後|오전|오후|πμ|μμ|ص|م|de|du)"
_TIME = rf"(?:{_HALF} ?)?\d{{1,2}}[:.]\d\d(?:[:.]\d\d)?(?:[.,]\d{{1,6}})?(?: ?{_HALF})?(?: ?(?:Uhr|h))?"
_BOTH = rf"(?:{_DATE}(?:,|،)?[ T]{{1,2}}(?:at |um |à |alle |klo |kl\.? )?{_TIME}|{_TIME},? {_DATE})"
_STAMP = re.compile(rf"\[(?P<in>{_BOTH})\](?::| -)? ?|(?P<out>{_BOTH})(?: [-–—] |: )|(?P<kakao>{_KOREAN} {_TIME})(?:, |$)")
_NAME = re.compile(r"(?P<name>[^:\"“”„‚«»‹›「」『』<>]{1,64})[:：](?:\s|$)")
_SAVED = re.compile(r"\s{0,4}(?:저장한 날짜|Date [Ss]aved|Saved on|保存日時)\s?[:：]")
_DAY = re.compile(
    rf"[-=─]{{0,40}} ?(?:{_KOREAN}|(?:\w{{1,9}}\.?,? )?(?:{_DATE})(?: ?\(\w{{1,9}}\.?\)| \w{{1,9}})?"
    rf"|(?:\w{{1,9}}, )?\w{{1,9}} \d{{1,2}}, \d{{4}})"
    r" ?[-=─]{0,40}"
)
_LINE = re.compile(rf"(?P<time>{_TIME})\t(?P<name>[^\t]{{0,64}})(?:\t(?P<text>.*))?")
_KAKAO = re.compile(rf"\[(?P<name>[^\[\]]{{1,64}})\] \[(?P<time>{_TIME})\] (?P<text>.*)")
_DAYED_MEDIA = re.compile(
    r"\[?(?:スタンプ|写真|動画|ボイスメッセージ|ファイル|アルバム|位置情報|Stickers?|Photos?|Videos?|Voice message|File|Location"
    r"|貼圖|照片|影片)\]"
    r"|사진(?: \d{1,3}장)?|동영상|이모티콘|음성메시지|Emoticons?"
)
_DAYED_SERVICE = re.compile(
    r"(?:☎|📞).{0,80}|(?:[^:]{1,60}님이 .{0,60}(?:들어왔습니다|나갔습니다|초대했습니다|초대하였습니다)"
    r"|채팅방 관리자가 메시지를 가렸습니다)\.?"
)
_SENTENCE = re.compile(r"\w{5}[.!?] ")  # no name holds the end of one
_LONGEST = 20_000  # letters of a message
_HEAD_LINE = re.compile(rf"(?P<name>[^\[\]:]{{1,64}}?),? \[(?P<time>{_BOTH})\]:?")
_EXPORTER = re.compile(r"\s{0,9}={20,80}\n(?:Guild|Channel): ")  # DiscordChatExporter, as plain text
_ATTACHED = re.compile(r"\{(?:Attachments|Embed|Stickers|Reactions|Forwarded Message|Inline Emoji)\}")
_POSTED = re.compile(rf"\[(?P<time>{_BOTH})\] (?P<name>.{{1,64}}?)(?: \(pinned\))?")
_SPACES = str.maketrans({"\u202f": " ", "\xa0": " "})
_HIDDEN = str.maketrans(dict.fromkeys("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff", None))
_OWN = "\u200e"  # in front of what WhatsApp says itself
_BRACKETS = re.compile(r"<[^<>]{2,60}>")
_EDITED = re.compile(
    r"\s?(?:\u200e<[^<>]{4,60}>|<[^<>]{0,40}(?:edited|bearbeitet|modifié|edit[aó]|modificato|bewerkt|изменено|отредактировано|編集|编辑|編輯"
    r"|수정|düzenlendi|redig|edytowan|muokattu|diedit)[^<>]{0,40}>)$", re.IGNORECASE,
)  # fmt: skip
_FILE = re.compile(r"[\w .()+,&-]{1,120}\.\w{2,4} \([^()]{3,40}\)")  # IMG-20230123-WA0000.jpg (file attached)
_MEDIA = re.compile(
    r"(?:image|video|audio|sticker|GIF|document|Contact card|video note|photo|voice message)s? omitted|null"
    r"|(?:Photo|Video|Voice message|Sticker|File|Location|Animation), (?:\d{1,5} ?[x×] ?\d{1,5}|not included.{0,40})", re.IGNORECASE,
)  # fmt: skip
_SERVICE = re.compile(
    r"(?:Messages and calls are end-to-end encrypted|Missed (?:group )?(?:voice|video|group) call|Waiting for this message"
    r"|This message was deleted(?: by .{1,60})?\.?$|You deleted this message\.?$)", re.IGNORECASE,
)  # fmt: skip
_DELETED = re.compile(
    r"(?:(?:Diese Nachricht wurde|Du hast diese Nachricht|Nachricht) gelöscht|Se eliminó este mensaje|(?:Eliminaste|Borraste) este mensaje"
    r"|Ce message a été supprimé|Vous avez supprimé ce message|(?:Esta )?Mensagem (?:foi )?apagada|(?:Você apagou|Apagou) esta mensagem"
    r"|(?:Questo messaggio è stato|Hai) eliminato(?: questo messaggio)?|(?:Dit|Deze) bericht is verwijderd"
    r"|(?:U|Je) hebt dit bericht verwijderd"
    r"|(?:Данное|Это) сообщение удалено|Вы удалили (?:данное|это) сообщение|(?:Ta wiadomość została|Usunięto tę) (?:usunięta|wiadomość)"
    r"|Bu mesaj silindi|Bu mesajı sildiniz|Tämä viesti poistettiin|Poistit tämän viestin"
    r"|このメッセージは削除されました|メッセージを削除しました"
    r"|삭제된 메시지입니다|此(?:消息|訊息)已(?:被)?(?:删除|刪除)|(?:您|你)(?:已)?(?:删除|刪除)了此(?:消息|訊息))[.。]?", re.IGNORECASE,
)  # fmt: skip


def read_chat(text: str, path: Path) -> Talk | None:
    """Read a chat; return `None` if no line begins with a date and a time."""
    lines = text.splitlines()
    if _EXPORTER.match(text):
        return _exported(lines)
    heads = [_head(line) for line in lines]
    if not any(heads):
        return _dayed(lines) or _copied(lines)
    first = next(number for number, head in enumerate(heads) if head)
    stamped = sum(head is not None for head in heads)
    if sum(bool(line.strip()) for line in lines[:first]) > stamped:
        return None
    names = {name for line, head in zip(lines, heads, strict=True) if head and (name := _split(line[head[1] :])[0])}
    known = {clean(name).casefold() for name in names}
    if not names:
        return None
    turns: list[tuple[Turn, list[str]]] = []
    pairs: Counter[tuple[str, str]] = Counter()
    service = unstamped = edited = 0
    joined: list[str] = []
    open_turn = False
    for line, head in zip(lines, heads, strict=True):
        own, said = (_split(line[head[1] :])) if head else _split(line)
        if head is None:
            name = clean(own) if own else ""
            if not turns and _SAVED.match(line):
                continue
            if name and (name.casefold() in known or not turns):
                unstamped += 1
                known.add(name.casefold())
            elif open_turn:
                if name and name[:1].isupper():
                    joined.append(line.strip())
                turns[-1][1].append(line.translate(_HIDDEN).strip())
                continue
            else:
                continue
        elif not own:
            service, open_turn = service + 1, False
            continue
        kind = _kind(said)
        if kind == "service":
            service, open_turn = service + 1, False
            continue
        name = clean(own)
        pairs[own.translate(_HIDDEN).strip(), name] += 1
        kept, marks = (said, 0) if kind == "media" else _EDITED.subn("", said)
        edited += marks
        text = "" if kind == "media" else kept.translate(_HIDDEN).strip()  # below a picture may stand what is said to it
        turns.append((Turn(text="", speaker=name, time=head[0] if head else ""), [text]))
        open_turn = True
    for turn, texts in turns:
        turn.text = " ".join(part for part in texts if part)
    say_cleaned(pairs)
    left_out(service, sum(not turn.text for turn, _ in turns))
    if edited:
        note(f"the mark of edited messages is removed from {count(edited, 'message')}")
    if unstamped:
        note(f"{count(unstamped, 'line')} with a name but no date {are(unstamped)} read as a message")
    if joined:
        note(f"{count(len(joined), 'line')} may name a new speaker; the text is joined to the previous utterance ({one_line(joined[0])!r})")
    return Talk(form="chat", turns=[turn for turn, _ in turns if turn.text])


def _head(line: str) -> tuple[str, int] | None:
    """Return the date and time at the beginning of a line, and the position at which the time ends in the line."""
    head = line[:HEAD].translate(_SPACES)
    start = len(head) - len(head.lstrip("\u200e\u200f\ufeff "))
    found = _STAMP.match(head, start)
    return (" ".join((found["in"] or found["out"] or found["kakao"]).split()), found.end()) if found else None


def _split(rest: str) -> tuple[str, str]:
    """Return the name and the text of a message. The name is empty for a service message, such as `Ann joined`."""
    found = _NAME.match(rest[:HEAD])
    is_name = found is not None and any(map(str.isalnum, found["name"])) and not _SENTENCE.search(found["name"])
    return (found["name"], rest[found.end() :]) if found and is_name else ("", rest)


def _kind(said: str) -> str:
    """Return the kind of a message: `service`, `media`, or an empty string for an utterance."""
    text = said.strip()
    plain = text.translate(_HIDDEN).strip()
    if len(plain) <= 200 and (_BRACKETS.fullmatch(plain) or _MEDIA.fullmatch(plain) or _FILE.fullmatch(plain)):
        return "media"
    if _SERVICE.match(plain) or _DELETED.fullmatch(plain):
        return "service"
    if text.startswith(_OWN):
        return "media" if len(plain) <= 40 else "service"
    return ""


def _copied(lines: list[str]) -> Talk | None:
    """Read messages copied from Telegram. Each message is a line with name and date, followed by lines of text."""
    heads = [_HEAD_LINE.fullmatch(line.strip().translate(_SPACES)[:HEAD]) for line in lines]
    first = next((line for line in lines if line.strip()), "")
    if not _HEAD_LINE.fullmatch(first.strip().translate(_SPACES)[:HEAD]):
        return None
    turns: list[tuple[Turn, list[str]]] = []
    for line, head in zip(lines, heads, strict=True):
        if head:
            turns.append((Turn(text="", speaker=clean(head["name"]), time=head["time"]), []))
        elif line.strip() and turns:
            turns[-1][1].append(line.strip())
    for turn, texts in turns:
        turn.text = " ".join(texts)
    empty = sum(not turn.text for turn, _ in turns)
    left_out(0, empty)
    return Talk(form="chat, copied", turns=[turn for turn, _ in turns if turn.text])


def _exported(lines: list[str]) -> Talk | None:
    """Read an export of Discord. After a heading, each message is a line with date and name, lines of text, and attachments in braces."""
    turns: list[tuple[Turn, list[str]]] = []
    beside = False
    for line in lines:
        plain = line.strip()
        if head := _POSTED.fullmatch(plain.translate(_SPACES)[:HEAD]):
            turns.append((Turn(text="", speaker=clean(head["name"]), time=head["time"]), []))
            beside = False
        elif turns and plain.strip("=") == "" and len(plain) >= 20:
            break
        elif _ATTACHED.fullmatch(plain):
            beside = True
        elif turns and plain and not beside:
            turns[-1][1].append(plain)
    for turn, texts in turns:
        turn.text = " ".join(texts)
    left_out(0, sum(not turn.text for turn, _ in turns))
    return Talk(form="chat", turns=[turn for turn, _ in turns if turn.text]) if turns else None


def _dayed(lines: list[str]) -> Talk | None:
    """Read a chat of LINE or KakaoTalk. For each day, a line with the date is followed by messages with their time of day."""
    found = [_LINE.fullmatch(line) or _KAKAO.fullmatch(line) if len(line) <= _LONGEST else None for line in lines]
    found = [one if one and (one["text"] is not None or one.re is _LINE) else None for one in found]
    first = next((number for number, one in enumerate(found) if one and one["text"] is not None), None)
    if first is None:
        return None
    if first and "\t" in next(line for line in lines if line.strip()):
        return None  # a table with a header
    before = [line for line in lines[:first] if line.strip() and not _DAY.fullmatch(line.strip())]
    if len(before) > 4:
        return None
    turns: list[tuple[Turn, list[str]]] = []
    day, service, media, open_turn = "", 0, 0, False
    for number, (line, one) in enumerate(zip(lines, found, strict=True)):
        plain = line.translate(_HIDDEN).strip()
        if one is None:
            if len(plain) <= HEAD and _DAY.fullmatch(plain):
                day, open_turn = plain.strip("-=─ "), False
            elif plain and number > first and _DAYED_SERVICE.fullmatch(plain[:_LONGEST]):
                service, open_turn = service + 1, False
            elif plain and open_turn:
                turns[-1][1].append(plain)
            continue
        text = (one["text"] or "").translate(_HIDDEN).strip()
        name = clean(one["name"]).removesuffix(":")  # Zoom writes one behind the name
        open_turn = False
        if one["text"] is None or not name or _DAYED_SERVICE.fullmatch(text[:_LONGEST]):
            service += 1
        elif _DAYED_MEDIA.fullmatch(text) or not text:
            media += 1
        else:
            turns.append((Turn(text="", speaker=name, time=f"{day} {one['time']}".strip()), [text]))
            open_turn = True
    for turn, texts in turns:
        turn.text = " ".join(texts)
        if len(texts) > 1 and turn.text[:1] == turn.text[-1:] == '"':  # LINE encloses what has several lines
            turn.text = turn.text[1:-1]
    if before:
        note(f"{count(len(before), 'line')} before the first message {are(len(before))} left out ({one_line(before[0])!r})")
    left_out(service, media)
    return Talk(form="chat, by days", turns=[turn for turn, _ in turns])
