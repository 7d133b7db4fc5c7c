"""Where the real data sets come from: every file with its public address and its SHA-256. The only such
table.
"""

from typing import NamedTuple


class RemoteFile(NamedTuple):
    """One file of a data set: its name here, where it is published, the SHA-256 of its bytes."""

    name: str
    url: str
    sha256: str


class Source(NamedTuple):
    """A data set: its title, its folder in ATTN_DATA and in the cache, its licence, its files."""

    title: str
    folder: str
    licence: str
    files: tuple[RemoteFile, ...]


_MULTI30K_URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a"
    "/data/task1/raw/"
)
_MULTI30K_SHA256 = {
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
}


def _multi30k(language: str) -> Source:
    names = [
        f"{split}.{side}.gz" for split in ("train", "val", "test_2016_flickr") for side in ("en", language)
    ]
    files = tuple(RemoteFile(name, _MULTI30K_URL + name, _MULTI30K_SHA256[name]) for name in names)
    return Source(f"Multi30k, English to {language}", "multi30k", "for research use", files)


_ATIS_URL = (
    "https://raw.githubusercontent.com/UniversalDependencies/UD_English-Atis/"
    "d1b43fe134cae17f65147e69accdf57c521d8af8/"
)
_ATIS_SHA256 = {
    "en_atis-ud-train.conllu": "bf34cac75bf90593720fb7e06fcecb4f3fbaf325e7a2ceefbcca10771f56ac72",
    "en_atis-ud-dev.conllu": "ba9ed59a6cf862c695043b64053194277023270ac46ad7b5182b90baee7cfee0",
    "en_atis-ud-test.conllu": "5d076b73ee57d30170f8e43434e14012f472d3af323b4f04d49a57d44c38b59a",
}
_RT_POLARITY_URL = (
    "https://raw.githubusercontent.com/dennybritz/cnn-text-classification-tf/"
    "18762b459e21d9c70e5c242f8d43fc4e6db37a0d/data/rt-polaritydata/"
)
_RT_POLARITY_SHA256 = {
    "rt-polarity.pos": "4134882974a28d0c7b5151256f0e33a6169984ee7372c279e673f1114f475d58",
    "rt-polarity.neg": "2d11cfbc790f1cd96d78339f41ce53ced1efa83cd22d37d6788fa3fe3d17e2fd",
}


def _files(address: str, sums: dict[str, str]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, address + name, sha256) for name, sha256 in sums.items())


SOURCES = {
    # Elliott et al. 2016, "Multi30K: Multilingual English-German Image Descriptions".
    "multi30k": _multi30k("de"),
    "multi30k-fr": _multi30k("fr"),
    # Hemphill et al. 1990, "The ATIS Spoken Language Systems Pilot Corpus"; its tags and trees are those of
    # the treebank UD English ATIS in Universal Dependencies (Nivre et al. 2020).
    "atis": Source("UD English ATIS", "atis", "CC BY-SA 4.0", _files(_ATIS_URL, _ATIS_SHA256)),
    # Pang and Lee 2005, "Seeing stars: Exploiting class relationships for sentiment categorization with
    # respect to rating scales".
    "rt-polarity": Source(
        "Sentence polarity", "rt-polarity", "for research use", _files(_RT_POLARITY_URL, _RT_POLARITY_SHA256)
    ),
}
