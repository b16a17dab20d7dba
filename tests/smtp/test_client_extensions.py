"""Dialogs of the sending side with extensions: said where they are offered, and never else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from mta_front.smtp.params import MailDsn, RcptDsn
from tests.smtp.client_dialogs import BODY, ENVELOPE, SENT, Dialog, Message, bytewise, check, whole

ASKED = (
    b"MAIL FROM:<a@x> RET=HDRS ENVID=a+2Bb+20c\r\n"
    b"RCPT TO:<b@y> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+3D@y\r\n"
    b"RCPT TO:<c@y>\r\nRCPT TO:<d@y> NOTIFY=NEVER\r\nDATA\r\n"
)
ASKS = Message(
    ("b@y", "c@y", "d@y"),
    dsn=MailDsn("HDRS", "a+b c"),
    rcpt_dsn={"b@y": RcptDsn(("SUCCESS", "DELAY"), "rfc822;B=@y"), "d@y": RcptDsn(("NEVER",))},
)

# RFC 3461 (DSN), RFC 8689 (REQUIRETLS), RFC 6531 (SMTPUTF8)
DIALOGS = {
    "what is to be reported is passed on": Dialog(
        [
            (
                ASKED,
                b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
            ),
            (SENT, b"250 done\r\n"),
        ],
        [["delivered 250 done passed"] * 3],
        [ASKS],
        offer=b"250-hop\r\n250-DSN\r\n250 PIPELINING\r\n",
    ),
    "and not to who does not offer DSN: those reports are ours": Dialog(
        [
            (
                ENVELOPE[:-6] + b"RCPT TO:<c@y>\r\nRCPT TO:<d@y>\r\nDATA\r\n",
                b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
            ),
            (SENT, b"250 done\r\n"),
        ],
        [["delivered 250 done"] * 3],
        [ASKS],
    ),
    "REQUIRETLS to one who keeps it": Dialog(
        [(b"MAIL FROM:<a@x> REQUIRETLS\r\n", b"450 later\r\n")],
        [["deferred 450 later"]],
        [Message(require_tls=True)],
        offer=b"250-hop\r\n250 REQUIRETLS\r\n",
        secure=True,
    ),
    "REQUIRETLS to one who would pass it on in clear": Dialog(
        [],
        [["failed 550 5.7.30 REQUIRETLS, and the next hop does not offer REQUIRETLS"]],
        [Message(require_tls=True)],
        secure=True,
    ),
    "REQUIRETLS in clear": Dialog(
        [],
        [["failed 550 5.7.30 REQUIRETLS, and the next hop is not reached over TLS"]],
        [Message(require_tls=True)],
        offer=b"250-hop\r\n250 REQUIRETLS\r\n",
    ),
    "an address that needs SMTPUTF8 says so": Dialog(
        [("MAIL FROM:<ä@x> SMTPUTF8\r\n".encode(), b"450 later\r\n")],
        [["deferred 450 later"]],
        [Message(mail_from="ä@x")],
        offer=b"250-hop\r\n250 SMTPUTF8\r\n",
    ),
}

CHUNKING = b"250-hop\r\n250-PIPELINING\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"
GROUP = ENVELOPE.replace(b"DATA\r\n", b"")
CHUNK = b"BDAT %d LAST\r\n%s" % (len(BODY), BODY)

# RFC 3030
DIALOGS |= {
    "a message is one chunk, sent once somebody is accepted": Dialog(
        [(GROUP, b"250 ok\r\n250 ok\r\n"), (CHUNK, b"250 2.0.0 queued as 1\r\n")],
        [["delivered 250 2.0.0 queued as 1"]],
        offer=CHUNKING,
    ),
    "the next envelope leaves with the last chunk": Dialog(
        [
            (GROUP, b"250 ok\r\n250 ok\r\n"),
            (CHUNK + GROUP, b"552 5.3.4 too big\r\n250 ok\r\n250 ok\r\n"),
            (CHUNK, b"250 second\r\n"),
        ],
        [["failed 552 5.3.4 too big"], ["delivered 250 second"]],
        [Message(), Message()],
        offer=CHUNKING,
    ),
    "chunks one command at a time": Dialog(
        [
            (b"MAIL FROM:<a@x>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<b@y>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<c@y>\r\n", b"550 5.1.1 no\r\n"),
            (CHUNK, b"250 done\r\n"),
        ],
        [["delivered 250 done", "failed 550 5.1.1 no"]],
        [Message(("b@y", "c@y"))],
        offer=b"250-hop\r\n250 CHUNKING\r\n",
    ),
    "no chunk for nobody, and RSET before the next": Dialog(
        [
            (GROUP, b"250 ok\r\n550 5.1.1 no\r\n"),
            (b"RSET\r\n" + GROUP, b"250 ok\r\n250 ok\r\n250 ok\r\n"),
            (CHUNK, b"250 done\r\n"),
        ],
        [["failed 550 5.1.1 no"], ["delivered 250 done"]],
        [Message(), Message()],
        offer=CHUNKING,
    ),
    "no chunk after a refused MAIL": Dialog(
        [(GROUP, b"451 later\r\n503 no\r\n"), (GROUP, b"250 ok\r\n250 ok\r\n"), (CHUNK, b"250 done\r\n")],
        [["deferred 451 later"], ["delivered 250 done"]],
        [Message(), Message()],
        offer=CHUNKING,
    ),
    "no chunk after a refused MAIL, though a recipient was taken": Dialog(
        [(GROUP, b"451 later\r\n250 ok\r\n"), (b"RSET\r\n" + GROUP, b"250 ok\r\n550 no\r\n503 no\r\n")],
        [["deferred 451 later"], ["failed 550 no"]],
        [Message(), Message()],
        offer=CHUNKING,
    ),
    "LMTP: the last chunk has a reply for each recipient (RFC 2033 §4.3)": Dialog(
        [
            (GROUP + b"RCPT TO:<c@y>\r\nRCPT TO:<d@y>\r\n", b"250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n"),
            (CHUNK, b"250 stored\r\n452 4.2.2 full\r\n"),
        ],
        [["delivered 250 stored", "failed 550 no", "deferred 452 4.2.2 full"]],
        [Message(("b@y", "c@y", "d@y"))],
        offer=CHUNKING,
        lmtp=True,
    ),
    "a binary message where it is offered": Dialog(
        [(b"MAIL FROM:<a@x> BODY=BINARYMIME\r\nRCPT TO:<b@y>\r\n", b"250 ok\r\n250 ok\r\n"), (CHUNK, b"250 done\r\n")],
        [["delivered 250 done"]],
        [Message(body_type="binarymime")],
        offer=CHUNKING,
    ),
    "a binary message where CHUNKING alone is offered": Dialog(
        [],
        [["failed 554 5.6.1 A binary message, and the next hop does not offer BINARYMIME"]],
        [Message(body_type="binarymime")],
        offer=b"250-hop\r\n250 CHUNKING\r\n",
    ),
    "lost after the last chunk: nobody knows": Dialog(
        [(GROUP, b"250 ok\r\n250 ok\r\n"), (CHUNK, b"EOF")],
        [["deferred the next hop closed the connection ?"]],
        closed="the next hop closed",
        offer=CHUNKING,
    ),
    "3xx for the last chunk": Dialog(
        [(GROUP, b"250 ok\r\n250 ok\r\n"), (CHUNK, b"354 go\r\n")],
        [["deferred protocol error: 354 in answer to the end of data ?"]],
        closed="protocol error",
        offer=CHUNKING,
    ),
}


@pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", DIALOGS)
def test_dialog(name: str, cut: Callable[[bytes], Iterable[bytes]]) -> None:
    check(DIALOGS[name], cut)
