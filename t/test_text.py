"""What a person sees is what is found: texts as SEARCH, SORT and PREVIEW have them."""

import base64
import binascii
import quopri
import re

import pytest
from cspool.mail import casemap, charset, date, hypertext, message, text, transfer
from cspool.mail.casemap import LONGER, searchable, sortable
from cspool.octets import with_crlf
from hypothesis import given
from hypothesis import strategies as st


def mail(body, *fields):
    """Return a message with these fields; `body` is text, or octets in some charset."""
    octets = body if isinstance(body, bytes) else body.encode()
    return with_crlf("".join(f"{field}\n" for field in fields).encode() + b"\n") + octets


def texts(octets):
    root = message.parse(octets)
    return text.header_text(root.header), text.body_text(root)[0].decode()


def preview(octets):
    return text.body_text(message.parse(octets))[1]


def in_charset(label, octets):
    return mail(octets, f"Content-Type: text/plain; charset={label}")


# Charsets: by superset, leniently, and by the labels that senders use.


@pytest.mark.parametrize(
    "label, octets, seen",
    [
        ("gb2312", "朱镕基".encode("gbk"), "镕"),
        ("GB_2312-80", "会议".encode("gb18030"), "会议"),
        ("x-gbk", "会议".encode("gbk"), "会议"),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방"),
        ("windows-949", "회의".encode("cp949"), "회의"),
        ("shift_jis", "①会議".encode("cp932"), "会議"),
        ("x-sjis", "会議".encode("cp932"), "会議"),
        ("iso-2022-jp", b"\x1b$B-!2q5D\x1b(B and ascii", "会議 and ascii"),
        ("iso-2022-jp", b"\x1b(I6@6E\x1b(B", "カタカナ"[:1]),
        ("euc-jp", "会議①".encode("euc_jis_2004"), "会議"),
        ("x-euc-jp", "会議".encode("euc_jp"), "会議"),
        ("big5", "會議".encode("big5") + b"\xf9\xd6", "會議"),
        ("big5", "會議".encode("big5") + b"\xff", "會議"),
        ("windows-874", "ประชุม".encode("cp874"), "ประชุม"),
        ("tis-620", "ประชุม".encode("cp874"), "ประชุม"),
        ("koi8-ru", "зустріч".encode("koi8_u"), "зустріч"),
        ("x-mac-cyrillic", "привет".encode("mac_cyrillic"), "привет"),
        ("iso-8859-8-i", "שלום".encode("iso8859_8"), "שלום"),
        ("iso-8859-1", "“quoted” 5€".encode("cp1252"), "“quoted” 5€"),
        ("latin1", b"caf\xe9", "café"),
        ("us-ascii", "köln".encode(), "köln"),
        ("iso-8859-1", "köln".encode(), "köln"),
        ("ascii", b"k\xf6ln", "köln"),
        ("utf-8", "réunion".encode() + b" \xff " + "école".encode(), "réunion ÿ école"),
        ("utf-8", b"r\xe9union", "réunion"),
        ("utf-8", "größe €".encode()[:-1], "größe"),
        ("utf-16", "größe".encode("utf-16-be"), "größe"),
        ("utf-16", "größe".encode("utf-16-le"), "größe"),
        ("utf-16", "größe".encode("utf-16"), "größe"),
        ("utf-7", b"gr+APYA3w-e", "größe"),
        ("nonsense", "größe".encode(), "größe"),
        ("nonsense", b"gr\xf6\xdfe", "größe"),
        ('"utf-8"', "größe".encode(), "größe"),
        ("iso-2022-jp", "会議".encode(), "会議"),
        ("hex", b"6162", "6162"),
        ("idna", b"xn--a-ecp.ru", "xn--a-ecp.ru"),
        ("utf-8", b"+ADw-", "+adw-"),
    ],
)
def test_charsets(label, octets, seen):
    assert searchable(seen) in texts(in_charset(label, octets))[1]


@pytest.mark.parametrize(
    "label, octets, seen",
    [
        ("iso-2022-jp", b"\x1b$B|b66\x1b(B", "髙橋"),  # of IBM
        ("euc-jp", b"\xfc\xe2\xb6\xb6", "髙橋"),
        ("iso-2022-jp", "10〜12".encode("iso2022_jp"), "10\uff5e12"),
        ("iso-2022-jp-2", "会".encode("iso2022_jp_2"), "会"),
        ("gbk", b"\x80100", "€100"),
        ("iso88592", "Łódź".encode("iso8859_2"), "łódź"),
        ("win-1251", "привет".encode("cp1251"), "привет"),
        ("utf-8", "e\u2011mail".encode(), "e-mail"),
        ("utf-8", b"YILLIK RAPOR", "y\u0131ll\u0131k rapor"),
        ("utf-8", "葛\U000e0100城市".encode(), "葛城市"),
        ("utf-8", "連絡先 ㍿山田商店".encode(), "㍿"),
        ("utf-8", "㍿山田商店".encode(), "株式会社"),
        ("utf-8", b"> the annual\r\n> report\r\n", "annual report"),
    ],
)
def test_charsets_as_senders_name_them(label, octets, seen):
    assert searchable(seen) in texts(in_charset(label, octets))[1]


@pytest.mark.parametrize(
    "html, seen",
    [
        ("Order #<!-- -->4711<!-- --> has shipped", "#4711"),
        ('in <st1:City w:st="on">Berlin</st1:City>, Germany', "berlin, germany"),
        ("un<del>bel</del>ievable (<time>Monday</time>)", "unbelievable (monday)"),
        ("wo<img src=1px.gif width=1>rd", "word"),
        ("x<![if !supportLists]>y", "xy"),
        ('Great<img alt="🎉" src=x>!', "great🎉!"),
        ('wo<span title="a>b">rd', "word"),
        ("<!-->visible<!-- x --> end", "visible end"),
        ("<!-- x --!>visible", "visible"),
        ('<a title="not closed>link</a> words', "words"),
    ],
)
def test_html_as_senders_write_it(html, seen):
    assert searchable(seen) in texts(mail(html, "Content-Type: text/html; charset=utf-8"))[1]


@pytest.mark.parametrize(
    "fields, key, seen",
    [
        (b"Subject: \xef\xf0\xe8\xe2\xe5\xf2\r\nContent-Type: text/plain; charset=windows-1251", "subject", "привет"),
        (b"Subject: \x1b$B2q5D\x1b(B\r\nContent-Type: text/plain; charset=iso-2022-jp", "subject", "会議"),
        (b"Subject: =?utf8?Q?=C3?= =?UTF-8?Q?=A9?=", "subject", "é"),
        (b'From: "John \\"JD\\" Doe" <j@example.org>', "from", 'john "jd" doe'),
        (b'From: "Doe\\, John" <j@example.org>', "from", "doe, john <j@example.org>"),
        (b"From: j (his) @ example.org (John)", "from", "john <j@example.org>"),
    ],
)
def test_headers_as_senders_write_them(fields, key, seen):
    root = message.parse(fields + b"\r\n\r\nx")
    lines = text.header_text(root.header, text.label_of(root)).split("\n")
    assert any(line.startswith(f"{key}:") and searchable(seen) in line for line in lines)


def test_a_file_name_makes_no_field():
    header = b"Content-Disposition: attachment; filename*=utf-8''a%0ASubject:%20injected%0D\r\n"
    assert "\nsubject" not in text.header_text(header)


@pytest.mark.parametrize(
    "body, kind, seen",
    [
        (b"SUMMARY:Budget\\, Q3\\nmeeting\\; x", "text/calendar", "budget, q3 meeting; x"),
        (b"SUMMARY:M\xc3\r\n \xbcller", "text/calendar; charset=utf-8", "müller"),
        (b"<meta charset=windows-1251>\xef\xf0\xe8\xe2\xe5\xf2", "text/html", "привет"),
        (b"\x1b$B2q5D\x1b(B", "text/plain", "会議"),
        (b"im<bold>port</bold>ant", "text/enriched", "important"),
    ],
)
def test_other_types_as_senders_write_them(body, kind, seen):
    assert searchable(seen) in texts(mail(body, f"Content-Type: {kind}"))[1]


def test_previews_of_other_parts():
    part = "--b\r\nContent-Type: text/{}\r\n\r\n{}\r\n"
    both = part.format("plain", "\u00a0 ") + part.format(
        "html", "<title>No</title>" + " " * 20000 + "<p>Hello there</p>"
    )
    assert preview(mail(both + "--b--", "Content-Type: multipart/alternative; boundary=b")) == "Hello there"
    hidden = "Sale" + "&#847;&zwnj;&nbsp;" * 150 + "<p>Hello"
    assert preview(mail(hidden, "Content-Type: text/html")) == "Sale Hello"


def test_runs_of_combining_marks_take_no_quadratic_time():
    """They are cut, as in stream-safe text (UAX #15)."""
    run = "a" + "\u0301\u0316" * 50_000
    assert len(searchable(run)) < 40 and len(sortable(run)) < 40


@given(st.sampled_from(sorted(charset.CODECS)), st.binary(max_size=60))
def test_no_octets_fail_in_any_charset(label, octets):
    charset.decode(octets, label).encode()


@given(st.text(max_size=30), st.binary(min_size=1, max_size=1))
def test_one_octet_hides_no_other_text(shown, octet):
    assert searchable(charset.decode(shown.encode() + b" " + octet, "utf-8")).startswith(
        searchable(shown + " ").rstrip()
    )


# Comparison


@pytest.mark.parametrize(
    "shown, wanted",
    [
        ("cafe\u0301", "CAFÉ"),
        ("café", "cafe\u0301"),
        ("Straße", "STRASSE"),
        ("STRASSE", "straße"),
        ("strasse", "STRAẞE"),
        ("ΟΔΟΣ", "οδος"),
        ("οδός", "ΟΔΌΣ"),
        ("İstanbul", "istanbul"),
        ("pass\u200bword re\u00adset", "password reset"),
        ("password", "pass\u200dword"),
        ("100\u00a0000\u202fEUR", "100 000 eur"),
        ("annual\r\nreport", "annual report"),
        ("annual\t  report", "annual report"),
        ("ﬁnal", "final"),
        ("\uff26\uff55\uff4c\uff4c\u3000\uff37\uff49\uff44\uff54\uff48", "full width"),
        ("❤\ufe0f", "❤"),
        ("Å", "Å"),
    ],
)
def test_what_is_the_same(shown, wanted):
    assert searchable(wanted) in searchable(shown)


def test_what_is_not_the_same():
    """Diacritics count."""
    assert searchable("resume") not in searchable("résumé")
    assert searchable("ann ual") not in searchable("annual")


@given(st.text())
def test_the_form_is_stable_and_not_much_longer(shown):
    form = searchable(shown)
    assert searchable(form) == form
    assert len(form) <= LONGER * len(shown) + 101


@given(st.text(st.sampled_from(" \n\tabÄß\u00a0\u0301\u200bﬁ가"), max_size=60))
def test_long_texts_are_converted_in_pieces(shown):
    whole = searchable(shown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(casemap, "PIECE", 12)
        assert "  " not in searchable(shown)
        if all(len(word) < 10 for word in re.split("[ \n]", shown)):
            assert searchable(shown) == whole


def test_a_character_that_stands_for_many():
    assert len(searchable("\ufdfa" * 100)) <= LONGER * 100 + 100


def test_order():
    """RFC 5051: ä is an A with something behind it, and letters are upper case, so "_" and "[" come after them."""
    names = ["Zoë", "Ärger", "_x", "[list]", "apple", "Banana", "éclair", "Eclair", "eclairs"]
    found = sorted(names, key=sortable)
    assert found == ["apple", "Ärger", "Banana", "Eclair", "eclairs", "éclair", "Zoë", "[list]", "_x"]


# Headers


@pytest.mark.parametrize(
    "header, expected",
    [
        (b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?iso-8859-1?b?5A==?=\r\n", "\nsubject: grüsseä\n"),
        (b"Subject: two\r\n lines\r\n\tand\r\n   more\r\n", "\nsubject: two lines and more\n"),
        (b"Subject: caf\xc3\xa9\r\n  au\r\n\tlait\r\nTo: x\r\n", "\nsubject: café au lait\nto: x\n"),
        (b"Subject: \xe4\r\n", "\nsubject: ä\n"),
        (b"Subject: =?nonsense?q?x?= =?utf-8?b?!?=\r\n", "\nsubject: x\n"),
        (b'Subject: Re: "=?utf-8?Q?Caf=C3=A9?="\r\n', '\nsubject: re: "café"\n'),
        (b"Subject: =?utf-8?Q?Caf=C3=A9 au lait?=\r\n", "\nsubject: café au lait\n"),
        (b"Subject: =?utf-8?B?ww==?=\r\n =?UTF-8?B?vA==?=\r\n", "\nsubject: ü\n"),
        (b"Subject: =?utf-8?Q?M=C3?=\r\n =?utf-8?Q?=BCnchen?=\r\n", "\nsubject: münchen\n"),
        (b"Subject: =?gb2312?B?" + base64.b64encode("镕".encode("gbk")) + b"?=\r\n", "\nsubject: 镕\n"),
        (b"Subject: =?utf-8*en?Q?caf=C3=A9?=\r\n", "\nsubject: café\n"),
        (b"Subject: =?utf-8?Q?a=0Ab?=\r\n", "\nsubject: a b\n"),
    ],
)
def test_header_text(header, expected):
    assert text.header_text(header) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        "filename*=utf-8''r%C3%A9sum%C3%A9.pdf",
        "filename*=iso-8859-1'fr'r%E9sum%E9.pdf",
        "filename*0*=utf-8''r%C3%A9; filename*1*=sum%C3%A9; filename*2=.pdf",
        'filename="=?utf-8?Q?r=C3=A9sum=C3=A9.pdf?="',
        'filename="résumé.pdf"',
    ],
)
def test_the_name_of_an_attachment(parameters):
    part = f"--b\nContent-Type: application/pdf\nContent-Disposition: attachment; {parameters}\n\n%PDF\n--b--\n"
    body = texts(mail(with_crlf(part.encode()), "Content-Type: multipart/mixed; boundary=b"))[1]
    assert "résumé.pdf" in body
    assert "content-disposition: attachment" in body


# Bodies

UUENCODED = b"begin 644 x\r\n" + binascii.b2a_uu(b"hello") + b"\r\n`\r\nend"
HTML = "<style>p{color:red}</style><p>I&#39;m at <b>caf</b>&eacute;<br>R&amp;D</p><!-- no --><td>one</td><td>two</td>"


@pytest.mark.parametrize(
    "octets, expected",
    [
        (mail("SGVsbG8=", "Content-Transfer-Encoding: base64"), "hello"),
        (mail("SGVsbG8", "Content-Transfer-Encoding: base64"), "hello"),
        (mail("SGVs\r\nbG8=\r\n--\r\nfooter", "Content-Transfer-Encoding: base64"), "hello"),
        (mail(b"soft=\r\n ly =E4=\r\n", "Content-Transfer-Encoding: quoted-printable"), "soft ly ä"),
        (mail(b"im=  \r\nportant", "Content-Transfer-Encoding: quoted-printable"), "important"),
        (mail("hello", "Content-Type: image/png"), ""),
        (mail("hello", "Content-Type: html"), "hello"),
        (mail("hello", "Content-Type: application/octet-stream"), "hello"),
        (mail(b"\0\1hello", "Content-Type: application/octet-stream"), ""),
        (mail("hello", "Content-Type: application/x-yaml"), "hello"),
        (mail('{"a": "ü"}', "Content-Type: application/json"), '{"a": "ü"}'),
        (mail("a,b", "Content-Type: text/csv"), "a,b"),
        (mail("Action: failed", "Content-Type: message/delivery-status"), "action: failed"),
        (mail(b"SUMMARY:bud\r\n get\r\n  meeting", "Content-Type: text/calendar"), "summary:budget meeting"),
        (mail("--b\r\n\r\nhidden words", "Content-Type: multipart/mixed"), "--b hidden words"),
        (mail(b"the annual \r\nreport", "Content-Type: text/plain; format=flowed"), "the annual report"),
        (mail(b"> the annual \r\n> report", "Content-Type: text/plain; format=flowed"), "> the annual report"),
        (mail(b"the ann \r\nual", "Content-Type: text/plain; format=flowed; delsp=yes"), "the annual"),
        (mail(b"x\r\n-- \r\nsig", "Content-Type: text/plain; format=flowed; delsp=yes"), "x -- sig"),
        (mail("Grüße", "Content-Type: text/plain; charset*=us-ascii'en'utf-8"), "grüsse"),
        (mail(b"Gr\xfc\xdfe", "Content-Type: text/plain; charset=iso-8859-1; "), "grüsse"),
        (mail(UUENCODED, "Content-Transfer-Encoding: x-uuencode"), "hello"),
        (mail(HTML, "Content-Type: text/html; charset=utf-8"), " i'm at café r&d one two "),
    ],
)  # fmt: skip
def test_body_text(octets, expected):
    assert texts(octets)[1] == expected


def enclosed(encoding, inner):
    encode = {"base64": base64.encodebytes, "quoted-printable": quopri.encodestring}.get(encoding, bytes)
    boundary = f"b{len(inner)}-"
    part = with_crlf(f"--{boundary}\nContent-Type: message/rfc822\nContent-Transfer-Encoding: {encoding}\n\n".encode())
    part += with_crlf(encode(inner.replace(b"\r\n", b"\n"))) + f"\r\n--{boundary}--\r\n".encode()
    return mail(part, f"Content-Type: multipart/mixed; boundary={boundary}")


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_an_enclosed_message(encoding):
    inner = b"From: carol@example.org\nSubject: =?utf-8?Q?inner_caf=C3=A9?=\n\nwithin\n"
    octets = enclosed(encoding, enclosed(encoding, inner))
    for wanted in ("carol@example.org", "inner café", "within"):
        assert wanted in texts(octets)[1]


def test_what_is_decoded_is_no_more_than_the_message():
    octets = b"Subject: innermost\n\nx\n"
    for _ in range(30):
        octets = enclosed("quoted-printable", octets)
    root, size = message.parse(octets), 0
    buffers = {id(part.octets): len(part.octets) for part in text._walk(root)}
    size = sum(buffers.values())
    assert size <= (message.DECODED + 1) * len(octets)


@given(st.text(st.sampled_from("<>\"'/!-&;#x9 abstylecript="), max_size=60))
def test_html_of_any_kind_is_text(html):
    list(hypertext.texts_of(html))


@pytest.mark.parametrize(
    "html, expected",
    [
        ("<p>im<b>port</b>ant</p>", "important"),
        ('<a href="x">li</a>nk', "link"),
        ("a<br>b<p>c</p>d", "a b c d"),
        ("<script>var hidden</script>shown", "shown"),
        ("<style>never closed", "never closed"),
        ("<!-- a --> b <!-- never closed", "b <!-- never closed"),
        ("a < b and c > d", "a < b and c > d"),
        ("&nbsp;x&nbsp;&euro;&#8364;&#x20AC;", "x €€€"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("<İ><style>x</style>y", "y"),
    ],
)
def test_html(html, expected):
    assert " ".join(searchable("".join(hypertext.texts_of(html))).split()) == searchable(expected)


def test_preview_is_not_cut_within_a_character():
    for count in range(195, 205):
        octets = mail("x" * (count % 7) + "日本語 " * 5000, "Content-Type: text/plain; charset=utf-8")
        assert "\ufffd" not in preview(octets) and "日本語" in preview(octets)
    assert preview(mail("<p>First</p><style>p{}</style>words", "Content-Type: text/html")) == "First words"


# Transfer encodings


@pytest.mark.parametrize(
    "encoded, decoded",
    [
        (b"aGVsbG8gd29ybGQhIQ==", b"hello world!!"),
        (b"aGVsbG8gd29ybGQhIQ", b"hello world!!"),
        (b"aGVsbG8gd29ybGQhIQ=", b"hello world!!"),
        (b"aGVsbG8=\r\nIHdvcmxk\r\n", b"hello world"),
        (b"aG Vs\tbG8=\r\n", b"hello"),
        (b"_-8=", b"\xff\xef"),
        (b"aGVsbG8gd29ybGQ=\r\n_______________\r\nlist mailing list\r\n", b"hello world"),
        (b"aGVsbG8h\r\n--\r\nsent from my phone\r\n", b"hello!"),
        (base64.urlsafe_b64encode(b"\xff" * 57) + b"\r\nYWJj", b"\xff" * 57 + b"abc"),
        (b"", b""),
    ],
)
def test_base64(encoded, decoded):
    assert transfer.decode(encoded, b"base64") == (decoded, True)


def test_base64_that_is_cut_off():
    """What can be decoded is searched, and it is not taken for the whole part."""
    assert transfer.decode(b"aGVsbG8gd", b"base64") == (b"hello ", False)
    assert transfer.decode(b"aGVsbG8gd===", b"base64") == (b"hello ", False)


@pytest.mark.parametrize(
    "encoded",
    [
        b"aGVsbG8g\r\nd29y!bGQh\r\nISEh\r\n",
        b"\xef\xbb\xbfaGVsbG8g",
        b"> aGVsbG8g\r\n> d29ybGQh",
        b"aGVsbG8=.",
        b"Hello plain words.",
        b"aGVsbG8=\r\nunsubscribe\r\n",
    ],
)
def test_base64_with_other_characters(encoded):
    """They are passed over, and what is decoded may not be the whole."""
    assert not transfer.decode(encoded, b"base64").is_whole


@given(st.binary(max_size=200), st.integers(1, 80))
def test_base64_comes_back(octets, width):
    encoded = base64.b64encode(octets)
    lines = b"\r\n".join(encoded[at : at + width] for at in range(0, len(encoded), width))
    assert transfer.decode(lines, b"base64") == (octets, True)


@pytest.mark.parametrize(
    "encoded, decoded",
    [
        (b"caf=C3=A9 =\r\nau lait=20\r\n", b"caf\xc3\xa9 au lait \r\n"),
        (b"im=  \r\nportant\r\n", b"important\r\n"),
        (b"word   \r\nnext \t\r\n", b"word\r\nnext\r\n"),
        (b"a=3Db =ZZ =", b"a=b =ZZ "),
        (b"abc=\rdef ghi\r\nnext\r\n", b"abc=\rdef ghi\r\nnext\r\n"),
        (b"a==b", b"a==b"),
    ],
)
def test_quoted_printable(encoded, decoded):
    assert transfer.decode(encoded, b"quoted-printable") == (decoded, True)


# Dates


@pytest.mark.parametrize(
    "value, seconds, day",
    [
        (b"Tue, 24 Nov 2026 00:30:00 +0100", 1795476600, 20781),
        (b"24 Nov 2026 23:30:00 -0800", 1795591800, 20781),
        (b"Mon, 6 Oct 25 10:00:00 +0200", 1759737600, 20367),
        (b"Mon, 6 Oct 70 10:00:00 +0000", 24055200, 278),
        (b"Wed, 14 Jun 100 05:41:34 -0700 (PDT)", 960986494, 11122),
        (b"Mon, 6 Oct 2025 10:00 +0200", 1759737600, 20367),
        (b"Mon, 6 Oct 2025 10:00:00 (CEST)", 1759737600, 20367),
        (b"Mon (a), 6 (b) Oct (c) 2025 10:00:00 (d) +0200", 1759737600, 20367),
        (b"Mon, 6 Oct 2025 10 : 00 : 00 +0200", 1759737600, 20367),
        (b"Mon,  6  Oct  2025  10:00:00  +0200", 1759737600, 20367),
        (b"Sat, 31 Dec 2016 23:59:60 +0000", 1483228800, 17167),
        (b"Mon, 6 Oct 2025 10:00:00 EST", 1759762800, 20367),
        (b"Mon, 6 Oct 2025 10:00:00 GMT", 1759744800, 20367),
        (b"Mon, 6 Oct 2025 10:00:00 K", 1759744800, 20367),
        (b"Mon, 6 Oct 2025 10:00:00", 1759744800, 20367),
        (b"Monday, 6 October 2025 10:00:00 +0200", 1759737600, 20367),
        (b"6-Oct-2025 10:00:00 +0200", 1759737600, 20367),
        (b"Mon Oct  6 10:00:00 2025", 1759744800, 20367),
        (b"Mon Oct 6 10:00:00 +0200 2025", 1759737600, 20367),
        (b"2025-10-06T10:00:00+02:00", 1759737600, 20367),
        (b"Thu, 1 Jan 1970 00:00:00 +0100", -3600, 0),
        (b"Mon Oct 06 2025 10:00:00 GMT+0200 (Central European Summer Time)", 1759737600, 20367),
        (b"Oct 6, 2025 10:00:00 AM", 1759744800, 20367),
        (b"Monday, October 6, 2025 10:00 PM", 1759788000, 20367),
        (b"Mon, 6 Oct 2025 10:00:00 UTC+2", 1759737600, 20367),
    ],
)
def test_sent(value, seconds, day):
    assert date.sent(value) == (seconds, day)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        b"Tue, 99 Nov 99999999999 00:30:00 +0100",
        b"6 Foo 2025 10:00:00",
        b"Mon, 6 Oct 0000 10:00:00 +0000",
        b"0000-01-01T00:00:00Z",
        b"6 Oct 2025 99:00",
    ],
)
def test_no_date(value):
    assert date.sent(value) is None


@given(st.binary(max_size=100))
def test_any_octets_are_a_date_or_none(value):
    date.sent(value)


WORDS = ["the", "quick", "föx", "jumps;", "€", "100,", "=41", "größe", "<b>bold</b>", "&", "&amp;"]
WORDS += ["<style>x{}</style>", "<!--", "no", "-->", "日本語", ">quoted"]


@pytest.mark.parametrize("line", ["\r\n", " ", ""])
@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("kind", ["plain", "plain; charset=iso-2022-jp", "plain; format=flowed", "html", "csv"])
@given(st.lists(st.sampled_from(WORDS), max_size=60), st.integers(20, 200), st.sampled_from(["utf-8", "latin-1"]))
def test_a_large_part_in_pieces_says_the_same(line, encoding, kind, words, size, charset):
    """But at the end of a piece, a character may be composed, or a quote be taken for the text."""
    octets = "".join(word + (line if number % 3 else " ") for number, word in enumerate(words)).encode(
        charset, "replace"
    )
    encode = {"quoted-printable": quopri.encodestring, "base64": base64.encodebytes}.get(encoding, bytes)
    octets = with_crlf(encode(octets))
    whole = mail(octets, f"Content-Type: text/{kind}", f"Content-Transfer-Encoding: {encoding}")
    expected = texts(whole)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "PIECE", size)
        patch.setattr(hypertext, "PIECE", size)
        assert texts(whole)[1] == expected


def test_what_cannot_be_decoded_in_pieces_is_decoded_from_there_on(monkeypatch):
    monkeypatch.setattr(transfer, "PIECE", 100)
    good = with_crlf(base64.encodebytes(b"hello world " * 20))
    for encoded in (
        good + b"=\r\n" + good,
        good + b"aGVs\xe4bG8=" + good,
        good.replace(b"\r\n", b"") * 2,
        b"aGVsb\r\n" * 50,
    ):
        whole = transfer.decode(encoded, b"base64").octets
        assert b"".join(transfer.pieces(encoded, 0, len(encoded), b"base64")) == whole
