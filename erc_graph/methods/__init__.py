"""Whole methods, one paper each: recipe, encoders, message passing, classifier, losses. Knows nothing of files or training loops."""

from __future__ import annotations

from erc_graph.methods.registry import Registry

METHODS = Registry(
    {
        "bc-lstm": "erc_graph.methods.bc_lstm:BCLSTM",
        "bigru": "erc_graph.methods.bigru:BiGRU",
        "cmn": "erc_graph.methods.cmn:CMN",
        "bimha": "erc_graph.methods.bimha:BIMHA",
        "cogmen": "erc_graph.methods.cogmen:COGMEN",
        "cosmic": "erc_graph.methods.cosmic:COSMIC",
        "corect": "erc_graph.methods.corect:CORECT",
        "dagerc": "erc_graph.methods.dagerc:DAGERC",
        "dialoguecrn": "erc_graph.methods.dialoguecrn:DialogueCRN",
        "dialoguernn": "erc_graph.methods.dialoguernn:DialogueRNN",
        "dialoguegcn": "erc_graph.methods.dialoguegcn:DialogueGCN",
        "edm": "erc_graph.methods.edm:EDM",
        "graphcfc": "erc_graph.methods.graphcfc:GraphCFC",
        "fmlmsn": "erc_graph.methods.fmlmsn:FmlMSN",
        "dialoguetrm": "erc_graph.methods.dialoguetrm:DialogueTRM",
        "graphsmile": "erc_graph.methods.graphsmile:GraphSmile",
        "haan-erc": "erc_graph.methods.haan_erc:HAANERC",
        "hff": "erc_graph.methods.hff:HFF",
        "ia-mmtf": "erc_graph.methods.ia_mmtf:IAMMTF",
        "icon": "erc_graph.methods.icon:ICON",
        "lmf": "erc_graph.methods.lmf:LMF",
        "iccn": "erc_graph.methods.iccn:ICCN",
        "lgcct": "erc_graph.methods.lgcct:LGCCT",
        "m2fnet": "erc_graph.methods.m2fnet:M2FNet",
        "hitrans": "erc_graph.methods.hitrans:HiTrans",
        "m3net": "erc_graph.methods.m3net:M3NET",
        "mer-han": "erc_graph.methods.mer_han:MERHAN",
        "mfdr": "erc_graph.methods.mfdr:MFDR",
        "mhdnn": "erc_graph.methods.mhdnn:MHDNN",
        "mfm": "erc_graph.methods.mfm:MFM",
        "mfn": "erc_graph.methods.mfn:MFN",
        "mmdfn": "erc_graph.methods.mmdfn:MMDFN",
        "mfrm": "erc_graph.methods.mfrm:MFRM",
        "misa": "erc_graph.methods.misa:MISA",
        "mmgcn": "erc_graph.methods.mmgcn:MMGCN",
        "mpfu": "erc_graph.methods.mpfu:MPFU",
        "multiemo": "erc_graph.methods.multiemo:MultiEMO",
        "mult": "erc_graph.methods.mult:MulT",
        "pairwise": "erc_graph.methods.pairwise:Pairwise",
        "sdt": "erc_graph.methods.sdt:SDT",
        "tetfn": "erc_graph.methods.tetfn:TETFN",
        "tfn": "erc_graph.methods.tfn:TFN",
        "two-stage": "erc_graph.methods.two_stage:TwoStage",
        "wavfusion": "erc_graph.methods.wavfusion:WavFusion",
    }
)
