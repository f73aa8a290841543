#!/usr/bin/python3
"""The programs that fuzz_relay begins with, as text.

    relay_seeds.py FOLDER       writes each as a file
    relay_seeds.py --read FILE  says what a file of libFuzzer's does, in the same words

A line is an operation of relay/program.h, who, and what else it takes; `&` at its end: what follows
comes in the same turn. Names of operations, types, texts and sequences are those of the sources.
"""

import pathlib
import re
import sys

FUZZ = pathlib.Path(__file__).resolve().parent
CLIENT = (FUZZ / "relay" / "client.cpp").read_text()
PROGRAM = (FUZZ / "relay" / "program.h").read_text()
STEP = 4
JOINED = 0x80
NAMES = ["", "s1", "s2", "carpool_1"]


def listed(pattern, text):
    return re.search(pattern, text, re.S)[1]


def strings(text):
    return [part.encode().decode("unicode_escape") for part in re.findall(r'"((?:[^"\\]|\\.)*)"', text)]


OPS = re.findall(r"^  (\w+),", listed(r"enum class Op [^{]*\{(.*?)\};", PROGRAM), re.M)
TEXTS = strings(listed(r"kTexts\[\] = \{(.*?)\n\};", CLIENT))
TYPES = strings(listed(r"kTypes = (.*?);", CLIENT))[0]
BURSTS = strings(listed(r"kBursts\[\] = \{(.*?)\};", CLIENT))

# Who comes in, beside `connect N`: RelayClient's entries, by number. What may be left out is 0.
SEEDS = {
    "query": """
        Connect 0
        Message 0 Q "SELECT '@'"
        Message 0 X
    """,
    "batch": """
        Connect 0
        Burst 0 PBDES s1 "SELECT $1"
        Burst 0 BES s1
        Message 0 C s1 128
    """,
    "two_share_one": """
        Connect 0
        Connect 1
        Message 0 Q "BEGIN"
        Message 1 Q "SELECT '@'"
        Message 0 Q "INSERT INTO t VALUES ('@')"
        Message 0 Q "COMMIT"
    """,
    "two_prepare_the_same": """
        Connect 0
        Connect 1
        Burst 0 PBES s1 "SELECT $1"
        Burst 1 PBES s1 "SELECT $1"
        Burst 0 BES s1
        Burst 1 BES s1
    """,
    "settings": """
        Connect 0 1
        Connect 1
        Message 0 Q "SET application_name = '@'"
        Message 1 Q "SELECT '@'"
        Message 0 Q "SHOW application_name"
        Message 0 Q "RESET ALL"
        Message 1 Q "SHOW application_name"
        Message 0 Q "DISCARD ALL"
    """,
    "settings_in_a_pipeline": """
        Connect 0 10
        Connect 1 3
        Message 0 Q "SET search_path = '@'" &
        Message 0 Q "SELECT '@'" &
        Message 0 Q "RESET ALL" &
        Message 0 Q "SELECT '@'"
        Message 1 Q "SELECT '@'"
    """,
    "pins": """
        Connect 0
        Connect 1
        Message 0 Q "LISTEN c /* @ */"
        Unasked 0 2
        Message 1 Q "SELECT '@'"
        Vanish 0
        Unasked 0 2
        Message 1 Q "PREPARE p AS SELECT '@'"
        Message 1 Q "EXECUTE p"
        Message 1 Q "DEALLOCATE p"
    """,
    "locks": """
        Connect 0
        Connect 1
        Burst 0 PBES s1 "SELECT pg_advisory_lock(1) /* @ */"
        Message 1 Q "SELECT '@'" &
        Vanish 0
        Message 1 Q "SELECT x FROM tmp"
    """,
    "temporary_and_held": """
        Connect 0
        Connect 1
        Message 0 Q "CREATE TEMP TABLE tmp (x text) /* @ */"
        Message 0 Q "DECLARE c CURSOR WITH HOLD FOR SELECT '@'"
        Message 0 X
        Message 1 Q "SELECT x FROM tmp"
        Message 1 Q "FETCH c"
    """,
    "copy_in": """
        Connect 0
        Message 0 Q "COPY t FROM STDIN /* @ */"
        Message 0 d 6
        Message 0 c
        Message 0 Q "SELECT '@'"
    """,
    "copy_in_a_batch": """
        Connect 0
        Burst 0 PBEdcS "COPY t FROM STDIN /* @ */"
        Burst 0 PBES "COPY t FROM STDIN /* @ */"
        Message 0 d 6
        Message 0 f
        Message 0 S
    """,
    "copy_that_fails_behind_a_sync": """
        Connect 0
        Connect 1
        HoldSteps 0
        Burst 0 PBESdcS "COPY t FROM STDIN /* @ */"
        Step 0 4
        Fail 0 0
        Step 0 0
        Message 0 Q "SELECT '@'"
        Message 1 Q "SELECT '@'"
    """,
    "copy_that_fails_within_a_message": """
        Connect 0
        Burst 0 PBES "COPY t FROM STDIN /* @ */"
        Hold 0
        Message 0 d 16
        Allow 0 200
        Fail 0 0
        Allow 0 100
        Allow 0 0
        Message 0 c
        Message 0 S
    """,
    "copy_out_to_who_does_not_read": """
        Connect 0
        Rows 0 8 16
        Deaf 0 1
        Message 0 Q "COPY t TO STDOUT /* @ */"
        Message 0 Q "SELECT '@'"
        Pass 6
        Deaf 0 0
        Vanish 0
    """,
    "copy_in_to_who_does_not_read": """
        Connect 0
        Message 0 Q "COPY t FROM STDIN /* @ */"
        DeafServer 0 1
        Message 0 d 16
        Message 0 d 16
        Message 0 d 16
        Message 0 d 16
        Message 0 c
        DeafServer 0 0
    """,
    "gone_in_a_copy": """
        Connect 0
        Connect 1
        Burst 0 PBE "COPY t FROM STDIN /* @ */" &
        Message 0 H
        Message 1 Q "SELECT '@'" &
        Vanish 0
    """,
    "left_in_a_replication": """
        Connect 0 5
        Message 0 Q "START_REPLICATION SLOT s LOGICAL 0/0 /* @ */"
        Message 0 d 4
        Message 0 X
    """,
    "batch_without_its_sync": """
        Connect 0
        Connect 1
        Burst 0 PBE "INSERT INTO t VALUES ('@')"
        Message 1 Q "SELECT '@'"
        Vanish 0
    """,
    "query_in_a_batch_that_failed": """
        Connect 0
        Connect 1
        Burst 0 PBEQ "SELECT 1/0" &
        Vanish 0
        Message 1 Q "SELECT '@'"
    """,
    # Found by this fuzzer: no ReadyForQuery comes behind an error that skips, and nobody looked.
    "leaves_behind_an_error_that_skips": """
        Connect 0
        Connect 1
        HoldSteps 0
        Burst 0 PBEQ "SELECT 1/0" &
        Message 0 X
        Step 0 0
        Message 1 Q "SELECT '@'"
    """,
    "vanishes_behind_an_error_that_skips": """
        Connect 0
        Connect 1
        HoldSteps 0
        Burst 0 PBEQ "SELECT 1/0"
        Vanish 0
        Step 0 0
        Message 1 Q "SELECT '@'"
    """,
    "error_in_a_transaction": """
        Connect 0
        Message 0 Q "BEGIN"
        Message 0 Q "SAVEPOINT s"
        Message 0 Q "SET application_name = '@'"
        Message 0 Q "SELECT 1/0"
        Message 0 Q "SELECT '@'"
        Message 0 Q "ROLLBACK TO s"
        Message 0 Q "ROLLBACK"
    """,
    "statements_that_are_lost": """
        Connect 0
        Burst 0 PBES s1 "SELECT $1"
        Fail 0 2
        Burst 0 BES s1
        Fail 0 3
        Burst 0 BDES s1
        Burst 0 BES s1
    """,
    "deallocated": """
        Connect 0
        Burst 0 PBES s1 "SELECT $1"
        Message 0 Q "DEALLOCATE s1"
        Burst 0 BES s1
        Burst 0 PBES s2 "DEALLOCATE ALL" &
        Burst 0 PBES s1 "SELECT $1"
    """,
    "stray_copy_done": """
        Connect 0
        Connect 1
        Burst 0 PBEcS "SET search_path = '@'"
        Message 1 Q "SELECT '@'"
    """,
    "cancel": """
        Connect 0
        Connect 1
        Message 0 Q "SELECT '@'"
        HoldSteps 0
        Message 0 Q "SELECT '@'"
        HoldCancels 0 1
        Cancel 0
        Message 1 Q "SELECT '@'"
        Step 0 0
        Cancel 0 1
        HoldCancels 0 0
    """,
    "cancel_while_it_waits": """
        Connect 0
        Connect 1
        Message 0 Q "BEGIN"
        Message 1 Q "SELECT '@'"
        Cancel 1
    """,
    "query_timeout": """
        Reload 0 5 1
        Connect 0
        Message 0 Q "SELECT '@'"
        HoldSteps 0
        Burst 0 QQQ "SELECT '@'"
        Pass 0 7
        Step 0 1
        Pass 0 7
        Pass 0 9
    """,
    "idle_in_a_transaction": """
        Reload 0 6 1
        Connect 0
        Message 0 Q "BEGIN"
        Pass 0 6
        Pass 0 6
    """,
    "idle_session": """
        Connect 0
        Message 0 Q "SET idle_session_timeout = 1000"
        Pass 0 6
        Pass 0 2
    """,
    "no_server_in_time": """
        Welcoming 0 5
        Connect 0
        Pass 0 8
        Welcoming 0 0
        Connect 0
        Message 0 Q "BEGIN"
        Connect 1
        Message 1 Q "SELECT '@'"
        Pass 0 8
    """,
    "postgresql_is_full": """
        Welcoming 0 2
        Connect 0
        Pass 0 5
        Welcoming 0 3
        Pass 0 5
        Welcoming 0 0
        Pass 0 6
        Message 0 Q "SELECT '@'"
        Welcoming 0 4
        Drop 0
        Message 0 Q "SELECT '@'"
    """,
    "servers_go": """
        Connect 0
        Message 0 Q "SELECT '@'"
        Farewell 0 &
        Message 0 Q "SELECT '@'"
        Message 0 Q "BEGIN"
        Drop 0
        Connect 0
        Rows 0 3 14
        HoldOut 0
        Message 0 Q "SELECT '@'"
        AllowOut 0 100
        Drop 0
    """,
    "answers_in_pieces": """
        Connect 0
        HoldOut 0
        AllowOut 0 3
        AllowOut 0 0
        HoldOut 0
        Rows 0 2 15
        Message 0 Q "SELECT '@'"
        AllowOut 0 7
        AllowOut 0 250
        Vanish 0
        AllowOut 0 0
    """,
    "requests_in_pieces": """
        Connect 0
        Hold 0
        Burst 0 PBDES s1 "SELECT $1"
        Allow 0 3
        Allow 0 9
        Allow 0 30
        Allow 0 0
    """,
    "reloads": """
        Connect 0
        Connect 1 2
        Message 0 Q "BEGIN"
        Reload 0 0 1
        Message 0 Q "COMMIT"
        Reload 0 1 2
        Reload 0 12 1
        Message 1 Q "SELECT '@'"
        Reload 0 13 1
        Message 0 Q "SELECT '@'"
        Reload 0 12 0
        Reload 0 0 2
        Message 0 Q "BEGIN"
        Reload 0 17 1
    """,
    "session_mode": """
        Reload 0 0 1
        Connect 0
        Message 0 Q "SET application_name = '@'"
        Message 0 X
        Connect 1
        Message 1 Q "SELECT '@'"
        Reload 0 8 2
        Shut 1
    """,
    "refused": """
        Reload 0 7 2
        Connect 0
        Message 0 Q "LISTEN c /* @ */"
        Burst 0 PBESPBES "LISTEN c /* @ */"
        Message 0 Q "BEGIN"
        Message 0 Q "SET search_path = '@'"
    """,
    "drain": """
        Connect 0
        Connect 1
        Message 0 Q "BEGIN"
        Message 1 Q "SELECT '@'"
        Drain 0
        Pass 0 11
        Pass 0 10
        Message 0 Q "COMMIT"
        Pass 0 7
    """,
    "console": """
        Connect 0
        Connect 1 4
        Message 1 Q "SHOW POOLS"
        Message 0 Q "BEGIN"
        Message 1 Q "PAUSE"
        Message 0 Q "COMMIT"
        Pass 0 2
        Message 1 Q "RESUME"
        Message 1 Q "SHOW CLIENTS"
        Message 1 Q "RECONNECT"
        Message 1 Q "KILL app"
    """,
    "controls": """
        Connect 0
        Message 0 Q "BEGIN"
        Control 0 0
        Control 0 6
        Control 0 4
        Message 0 Q "COMMIT"
        Control 0 3
        Message 0 Q "SELECT '@'"
        Control 0 5
        Control 0 9
    """,
    "strange_packets": """
        Connect 0 128
        Connect 1 192
        Raw 0 \\0\\0\\0\\x10\\x04\\xd2\\x16\\x2e\\0\\0\\0\\x01\\0\\0\\0\\x02
        Connect 2 5
        Raw 2 Q\\0\\0\\0\\x03
        Connect 3 7
        Raw 3 D\\0\\0\\x42\\x68S
    """,
    "smuggled": """
        Connect 0
        Connect 1
        Raw 0 C\\0\\0\\0\\x20SxxxxxxQ\\0\\0\\0\\x0dSELECT 1\\0xxxx
        Message 1 Q "SELECT '@'"
    """,
    "lies": """
        Connect 0
        Connect 1
        Message 0 Q "SELECT '@'"
        Lie 0 0 0
        HoldSteps 0
        Message 0 Q "SELECT '@'"
        Lie 0 0 0
        Message 1 Q "SELECT '@'"
        Lie 0 2 0
        Lie 0 0 1
        Step 0 0
    """,
    "lies_of_a_copy": """
        Connect 0
        HoldSteps 0
        Burst 0 PBES "SELECT '@'"
        Lie 0 10 0
        Lie 0 3 0
        Lie 0 0 0
        RawServer 0 D\\0\\0\\0\\xff
        Vanish 0
        Pass 0 11
    """,
    "rubbish": """
        Welcoming 0 6
        Connect 0
        Welcoming 0 1
        Pass 0 6
        Welcoming 0 0
        Pass 0 6
        Message 0 Q "SELECT '@'"
        RawServer 0 HTTP/1.1 400 Bad Request
    """,
    "two_servers": """
        Reload 0 1 1
        Connect 0
        Connect 1
        Connect 2
        Message 0 Q "BEGIN"
        Message 1 Q "BEGIN /* @ */"
        Message 2 Q "SELECT '@'"
        Message 0 Q "SET application_name = '@'"
        Message 0 Q "COMMIT"
        Message 1 Q "COMMIT"
        Message 2 Q "SHOW application_name"
        Message 0 Q "SHOW application_name"
    """,
    "all_at_once": """
        Connect 0 &
        Connect 1 &
        Connect 2 &
        Connect 3
        Burst 0 PBES s1 "SELECT $1" &
        Burst 1 PBES s1 "SELECT $1" &
        Burst 2 QQQ "SELECT '@'" &
        Burst 3 PBESX "SELECT '@'" &
        Turn 0 1
        Vanish 1 &
        Farewell 0 &
        Burst 2 PBES "SELECT '@'"
    """,
}

LINE = re.compile(r"""(?P<op>\w+)(?:\s+(?P<who>\d+))?(?P<rest>.*)$""")


def assemble(line):
    joined = line.endswith("&")
    match = LINE.match(line.removesuffix("&").strip())
    op, who, rest = match["op"], int(match["who"] or 0), match["rest"].strip()
    a = b = 0
    payload = b""
    if op in ("Raw", "RawServer"):
        payload = rest.encode().decode("unicode_escape").encode("latin-1")
        a = len(payload)
    elif op in ("Message", "Burst"):
        kind, _, rest = rest.partition(" ")
        a = TYPES.index(kind) if op == "Message" else BURSTS.index(kind)
        text = re.search(r'"(.*)"', rest)
        words = re.sub(r'".*"', "", rest).split()
        name = next((NAMES.index(word) for word in words if word in NAMES), 0)
        a |= name << (4 if op == "Message" else 6)
        if text:
            b = TEXTS.index(text[1])
        b = next((int(word) for word in words if word.isdigit()), b)
    else:
        numbers = [int(word) for word in rest.split()]
        a, b = (numbers + [0, 0])[:2]
    step = bytes([OPS.index(op) | (JOINED if joined else 0), who, a, b])
    return step + payload + bytes(-len(payload) % STEP)


def program(text):
    return b"".join(assemble(line.strip()) for line in text.strip().splitlines())


def read(data):
    at = 0
    while at + STEP <= len(data):
        code, who, a, b = data[at:at + STEP]
        at += STEP
        op = OPS[(code & ~JOINED) % len(OPS)]
        if op in ("Raw", "RawServer"):
            what = data[at:at + a].decode("latin-1").encode("unicode_escape").decode()
            at += (a + STEP - 1) // STEP * STEP
        elif op == "Message":
            kind = TYPES[a % len(TYPES)]
            text = f' "{TEXTS[b % len(TEXTS)]}"' if kind in "QP" else f" {b}"
            what = f"{kind} {NAMES[(a >> 4) % len(NAMES)]}{text}"
        elif op == "Burst":
            what = f'{BURSTS[a % 64 % len(BURSTS)]} {NAMES[a >> 6]} "{TEXTS[b % len(TEXTS)]}"'
        else:
            what = f"{a} {b}"
        print(f"{op} {who % 4} {what}{' &' if code & JOINED else ''}")


def main():
    if sys.argv[1:2] == ["--read"]:
        return read(pathlib.Path(sys.argv[2]).read_bytes())
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in SEEDS.items():
        (folder / name).write_bytes(program(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
