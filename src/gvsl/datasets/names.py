"""What the name of a volume says: whether it may be a label map, and the key by which image and label map meet."""

import re
import unicodedata
from collections.abc import Sequence

LABEL_WORDS = (
    r"labels?|lbls?|segs?|segm|dseg|segmentations?|masks?|msk|gt|ground[-_ ]?truth|truth|annotations?|annot|manual|"
    r"rois?|contours?|gtv[tnp]?|parc|parcellation|(?:aparc\S*\+)?aseg|lesions?"
)
IMAGE_WORDS = r"images?|imgs?|imaging|volumes?|vol|scans?|orig|original|data"
CHANNEL = re.compile(r"(?<=.)_000\d$")
"""Channel in names of nnU-Net."""
MODALITIES = r"ct|cta|cect|mr|mri|mra|pt|pet|t1w?|t1c|t1ce|t1gd|t2w?|pdw?|flair|adc|dwi|b0|procimg|anat"
MAPS = re.compile(
    r"(?:^|_)(?:spm[tf]_\d+|[tzf]stat\d*|[tzf]map|statmap|probseg|prob(?:s|ability|abilities)?|softmax|pve(?:_\d+)?|"
    r"atlas|heatmap)$"
)
"""Name endings of statistical, probability and atlas maps."""
TISSUE = re.compile(r"^m?w?r?c[1-6](.+)$")
"""SPM's tissue probability maps: c1NAME beside NAME."""
ENTITIES = re.compile(r"_(?:seg|label|desc|space|res|den|atlas)-[a-z0-9+]+")
"""Parts of a BIDS name that tell a label map from its image."""
GAP = r"[-_. +]+"
LABEL_ENDS, IMAGE_ENDS, BARE_ENDS, ALL_ENDS = (
    re.compile(rf"(?:^|{GAP})(?:{words})$|^(?:{words})(?:{GAP}|(?=\d)|$)")
    for words in (
        LABEL_WORDS,
        IMAGE_WORDS,
        f"{IMAGE_WORDS}|{MODALITIES}",
        f"{IMAGE_WORDS}|{MODALITIES}|{LABEL_WORDS}",
    )
)
"""Words at the end or the beginning of a name."""
LABEL_WORD, WORD = re.compile(LABEL_WORDS), re.compile(f"{LABEL_WORDS}|{IMAGE_WORDS}")
OTHER_WORD = re.compile(rf"{MODALITIES}|train(?:ing)?|test(?:ing)?|val(?:idation)?|tr|ts|va|\d+|all|set|raw")
"""Words that folders of images or label maps have beside those."""
BUNDLES = ("derivatives", "rawdata", "annotations")
"""Folders of images or label maps."""


def normal(name: str) -> str:
    r"""Return a name in the one form in which names are compared.

    >>> normal("JA\u0308GER") == normal("j\u00e4ger")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def names_label(stem: str) -> bool:
    """Return True if a file's stem says that it may be a label map.

    >>> [names_label(stem) for stem in ("segmentation-0", "patient001_gt", "label0001", "GT", "p.seg", "volume-0")]
    [True, True, True, True, True, False]
    """
    return without_words(normal(stem), LABEL_ENDS) != normal(stem)


def names_map(stem: str) -> bool:
    """Return True if a stem says that it is a statistical, probability or atlas map."""
    return MAPS.search(normal(stem)) is not None


def names_tissue(stem: str, beside: set[str]) -> bool:
    """Return True if a stem may be that of a tissue probability map of another of its folder.

    Args:
        stem: of the file.
        beside: all stems of its folder, as `normal` returns them.
    """
    found = TISSUE.match(normal(stem))
    return found is not None and found[1] in beside


def is_label_folder(name: str) -> bool:
    """Return True if a folder's name says that it may hold label maps.

    >>> [is_label_folder(name) for name in ("Labels", "labelsTr", "TrainMask", "ct_gt", "derivatives", "img", "masked")]
    [True, True, True, True, True, False, False]
    """
    return normal(name) == "derivatives" or any(LABEL_WORD.fullmatch(word) for word in _words(name))


def folder_key(name: str) -> str:
    """Return what of a folder's name belongs to the names of its cases: no words for images or label maps.

    >>> [folder_key(name) for name in ("imagesTr", "TrainMask", "img", "patient_1", "mask_007_b")]
    ['tr', 'train', '', 'patient_1', 'mask_007_b']
    """
    words = _words(name)
    others = [word for word in words if not WORD.fullmatch(word)]
    if normal(name) in BUNDLES:
        return ""
    return "_".join(others) if words and all(map(OTHER_WORD.fullmatch, others)) else normal(name)


def image_keys(folders: Sequence[str], stem: str) -> list[str]:
    """Return the keys of an image, the most specific first: its path, without words for image, without modality."""
    name = normal(stem)
    plain = without_words(CHANNEL.sub("", name), IMAGE_ENDS)
    bare = without_words(plain, BARE_ENDS)
    return [_key(folders, part) for part in (name, plain, bare)]


def label_keys(folders: Sequence[str], stem: str) -> list[str]:
    """Return the keys of a label map, the most specific first, to be looked for among those of images.

    >>> label_keys(["case_00000"], "segmentation")[1], image_keys(["case_00000"], "imaging")[1]
    ('case_00000', 'case_00000')
    """
    name = normal(stem)
    if name.startswith("sub-"):
        name = ENTITIES.sub("", name)
    base = without_words(name, LABEL_ENDS)
    plain = without_words(base, IMAGE_ENDS)
    bare = without_words(plain, ALL_ENDS)
    return list(dict.fromkeys(_key(folders, part) for part in (name, base, plain, bare)))


def without_words(name: str, ends: re.Pattern[str]) -> str:
    """Remove words from both ends of a normalised name, as far as they are set apart.

    >>> without_words("img0001", IMAGE_ENDS), without_words("a_label", LABEL_ENDS)
    ('0001', 'a')
    """
    while True:
        shorter = ends.sub("", name)
        if shorter == name:
            return name
        name = shorter


def _key(folders: Sequence[str], stem: str) -> str:
    """Join the folders that belong to a case's name and the stem, without repetitions."""
    parts = list(folders)
    plain = [normal(part) for part in folders]
    if "derivatives" in plain:  # the folder of a BIDS pipeline too
        start = plain.index("derivatives")
        subject = next((index for index in range(start, len(parts)) if plain[index].startswith("sub-")), start + 1)
        parts = [*parts[:start], *parts[subject:]]
    parts = [key for key in map(folder_key, parts) if key]
    while parts and re.match(rf"{re.escape(parts[-1])}(?:{GAP}|$)", stem):
        parts.pop()
    return "_".join([*parts, stem] if stem else parts)


def _words(name: str) -> list[str]:
    """Split a folder's name into its words, also at capitals and before the endings Tr, Ts and Va."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z\d])|(?<=\d)(?=[A-Za-z])|(?<=s)(?=(?:tr|ts|va)$)", " ", name)
    return [normal(word) for word in re.split(r"[\W_]+", apart) if word]
