"""The labels of Gmail, as Google's Takeout writes them into a header, in the language of the account.

A message has several labels, and is here once: in the mailbox of one of them,
with the others as keywords.
"""

import re
from typing import NamedTuple

from ..mail import text

# What Gmail's own labels are here, by what it calls them in some languages, in lower case.
_MAILBOXES = {
    "Junk": "spam|courrier indésirable|correo no deseado|posta indesiderata|lixo eletrônico",
    "Trash": "trash|bin|papierkorb|corbeille|papelera|cestino|lixeira|prullenbak|lixo|kosz|корзина|ゴミ箱",
    "Drafts": "drafts|draft|entwürfe|entwurf|brouillons|brouillon|borradores|borrador|bozze|bozza|rascunhos|rascunho"
    "|concepten|concept|wersje robocze|черновики|下書き",
    "Sent": "sent|gesendet|messages envoyés|envoyés|envoyé|enviados|enviado|posta inviata|inviati|inviata|verzonden"
    "|wysłane|отправленные|送信済み",
    "INBOX": "inbox|posteingang|boîte de réception|recibidos|posta in arrivo|caixa de entrada|postvak in|odebrane"
    "|входящие|受信トレイ",
}
_UNREAD = (
    "unread|ungelesen|non lus|non lu|no leídos|no leído|da leggere|non letti|non letto|não lidos|não lidas|não lido"
    "|ongelezen|nieprzeczytane|непрочитанные|未読"
)
_STARRED = (
    "starred|markiert|mit markierung|suivis|suivi|destacados|destacado|speciali|con estrella|com estrela|met ster"
    "|oznaczone gwiazdką|помеченные|スター付き"
)
_WITHOUT_MEANING = (
    "opened|geöffnet|ouvert|ouverts|lus|abiertos|abierto|aperti|letti|abertas|aberto|geopend|otwarte|открыто|開封済み"
    "|archived|archiviert|archivé|archivés|archivados|archivado|archiviati|arquivados|arquivado|gearchiveerd"
    "|zarchiwizowane|заархивировано|アーカイブ済み|chat|chats|important|wichtig|importants|importante|importanti"
    "|belangrijk|ważne|важное|重要"
)
_NAMES = {name: mailbox for mailbox, names in _MAILBOXES.items() for name in names.split("|")}
_UNREAD_NAMES, _STARRED_NAMES = frozenset(_UNREAD.split("|")), frozenset(_STARRED.split("|"))
_GMAILS = _NAMES.keys() | _UNREAD_NAMES | _STARRED_NAMES | frozenset(_WITHOUT_MEANING.split("|"))
_CATEGORY = re.compile(r"(?:category|kategorie|catégorie|categoría|categoria|categorie|kategoria|категория)\b", re.I)
_ONE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,]+)')
_NO_KEYWORD = re.compile(r"[^!#$&'+\-./0-9:;<=>?@A-Z^_`a-z|}~]+")


class Labels(NamedTuple):
    """The mailbox and the flags that labels stand for."""

    mailbox: str
    flags: list[str]


def read(value: bytes) -> Labels:
    """Return what the value of a field X-Gmail-Labels stands for."""
    shown = text.decode_words(value)
    names = [(quoted or plain).strip() for quoted, plain in _ONE.findall(shown)]
    known = {name.casefold() for name in names}
    own = [name for name in names if name and name.casefold() not in _GMAILS and not _CATEGORY.match(name)]
    flags = [] if known & _UNREAD_NAMES else ["\\Seen"]
    flags += ["\\Flagged"] if known & _STARRED_NAMES else []
    flags += ["\\Draft"] if any(_NAMES.get(name) == "Drafts" for name in known) else []
    mailbox = next((one for one in _MAILBOXES if any(_NAMES.get(name) == one for name in known)), None)
    if mailbox is None:
        mailbox, own = (_name(own[0]), own[1:]) if own else ("Archive", [])
    keywords = (_NO_KEYWORD.sub("_", name)[:100] for name in own)
    return Labels(mailbox, flags + [word for word in keywords if word.strip("_")])


def _name(label: str) -> str:
    """Return the mailbox for a label, which has levels like ours."""
    return "/".join(part for part in re.sub(r"[\x00-\x1f\x7f-\x9f]", "", label).split("/") if part) or "Archive"
