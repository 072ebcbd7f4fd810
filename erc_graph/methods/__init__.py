"""All methods. Each module or package implements one method: encoders, message passing, classifier and losses.

Most methods are from a paper. A method reads no corpus files and contains no training loop.
"""

from __future__ import annotations

from erc_graph.methods.registry import Registry

METHODS = Registry(
    {
        "attention-fusion": "erc_graph.methods.attention_fusion:AttentionFusion",
        "bc-lstm": "erc_graph.methods.bc_lstm:BCLSTM",
        "bigru": "erc_graph.methods.bigru:BiGRU",
        "bimha": "erc_graph.methods.bimha:BIMHA",
        "cmn": "erc_graph.methods.cmn:CMN",
        "cogmen": "erc_graph.methods.cogmen:COGMEN",
        "corect": "erc_graph.methods.corect:CORECT",
        "cosmic": "erc_graph.methods.cosmic:COSMIC",
        "dagerc": "erc_graph.methods.dagerc:DAGERC",
        "dialoguecrn": "erc_graph.methods.dialoguecrn:DialogueCRN",
        "dialoguegcn": "erc_graph.methods.dialoguegcn:DialogueGCN",
        "dialoguernn": "erc_graph.methods.dialoguernn:DialogueRNN",
        "dialoguetrm": "erc_graph.methods.dialoguetrm:DialogueTRM",
        "dialogxl": "erc_graph.methods.dialogxl:DialogXL",
        "edm": "erc_graph.methods.edm:EDM",
        "fmlmsn": "erc_graph.methods.fmlmsn:FmlMSN",
        "graphcfc": "erc_graph.methods.graphcfc:GraphCFC",
        "graphsmile": "erc_graph.methods.graphsmile:GraphSmile",
        "haan-erc": "erc_graph.methods.haan_erc:HAANERC",
        "hff": "erc_graph.methods.hff:HFF",
        "hitrans": "erc_graph.methods.hitrans:HiTrans",
        "ia-mmtf": "erc_graph.methods.ia_mmtf:IAMMTF",
        "iccn": "erc_graph.methods.iccn:ICCN",
        "icon": "erc_graph.methods.icon:ICON",
        "lgcct": "erc_graph.methods.lgcct:LGCCT",
        "linear": "erc_graph.methods.linear:Linear",
        "lmf": "erc_graph.methods.lmf:LMF",
        "m2fnet": "erc_graph.methods.m2fnet:M2FNet",
        "m3net": "erc_graph.methods.m3net:M3NET",
        "mer-han": "erc_graph.methods.mer_han:MERHAN",
        "mfdr": "erc_graph.methods.mfdr:MFDR",
        "mfm": "erc_graph.methods.mfm:MFM",
        "mfn": "erc_graph.methods.mfn:MFN",
        "mfrm": "erc_graph.methods.mfrm:MFRM",
        "mhdnn": "erc_graph.methods.mhdnn:MHDNN",
        "misa": "erc_graph.methods.misa:MISA",
        "mmdfn": "erc_graph.methods.mmdfn:MMDFN",
        "mmgcn": "erc_graph.methods.mmgcn:MMGCN",
        "mpfu": "erc_graph.methods.mpfu:MPFU",
        "mult": "erc_graph.methods.mult:MulT",
        "multiemo": "erc_graph.methods.multiemo:MultiEMO",
        "pairwise": "erc_graph.methods.pairwise:Pairwise",
        "sdt": "erc_graph.methods.sdt:SDT",
        "speaker-context": "erc_graph.methods.speaker_context:SpeakerContext",
        "tetfn": "erc_graph.methods.tetfn:TETFN",
        "tfn": "erc_graph.methods.tfn:TFN",
        "two-stage": "erc_graph.methods.two_stage:TwoStage",
        "unimse": "erc_graph.methods.unimse:UniMSE",
        "wavfusion": "erc_graph.methods.wavfusion:WavFusion",
        "word-alignment": "erc_graph.methods.word_alignment:WordAlignment",
    }
)
