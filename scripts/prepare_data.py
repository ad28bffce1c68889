#!/usr/bin/env python3
"""Turns text into token files that the trainer reads (data.format: tokens), and trains a byte-level BPE tokenizer.

    prepare_data.py train-bpe --vocab-size 8192 --out tokenizer.json corpus/*.txt
    prepare_data.py encode --tokenizer tokenizer.json --out data/books books/*.txt
    prepare_data.py encode --tokenizer tokenizer.json --out data/web --jsonl-key text web.jsonl
    prepare_data.py encode --bytes --out data/books books/*.txt

`encode` writes PREFIX.bin and PREFIX.idx (Megatron's layout) and PREFIX.meta.json (what they were made from, with checksums). A text file is one
document, a line of a JSONL file likewise; an end-of-document token follows each. `--bytes` needs nothing but Python; the rest needs the
`tokenizers` package (0.20 or newer):

    python3 -m venv .venv-tools && .venv-tools/bin/pip install tokenizers
"""

import argparse
import array
import contextlib
import hashlib
import itertools
import json
import os
import struct
import sys

END_OF_DOCUMENT = "<|endoftext|>"
BYTE_VOCAB_SIZE = 257
BYTE_END_OF_DOCUMENT = 256
UINT16_VOCAB_LIMIT = 65500  # Megatron's rule, so that its own tools choose the same type
BATCH_BYTES = 4 << 20  # text that is encoded at once, on all cores


class DataError(Exception):
    """The user's input is wrong; the message says where."""


# ---------------------------------------------------------------- reading


def read_file(path):
    """The bytes of a file."""
    with open(path, "rb") as file:
        data = file.read()
    if not data:
        raise DataError(f"{path}: is empty; leave it out")
    return data


def read_jsonl(path, key):
    """The documents of a JSONL file, one a line; blank lines are passed over."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{place}: is no JSON: {error}") from error
            if not isinstance(record, dict) or not isinstance(record.get(key), str):
                raise DataError(f"{place}: has no text under the key {key!r}; choose another --jsonl-key")
            if not record[key]:
                raise DataError(f"{place}: the text under {key!r} is empty; remove the line")
            try:
                yield record[key].encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(f"{place}: the text under {key!r} has half a surrogate pair, which is no character") from error


def read_documents(paths, jsonl_key):
    """(path, bytes) of each document, in order."""
    for path in paths:
        documents = [read_file(path)] if jsonl_key is None else read_jsonl(path, jsonl_key)
        for document in documents:
            yield path, document


def batches(documents):
    """Lists of documents of about BATCH_BYTES."""
    batch, num_bytes = [], 0
    for document in documents:
        batch.append(document)
        num_bytes += len(document[1])
        if num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


# ---------------------------------------------------------------- tokenizers


def import_tokenizers():
    try:
        import tokenizers
    except ImportError as error:
        raise DataError(
            "the package `tokenizers` is not installed in this Python; "
            "run: python3 -m venv .venv-tools && .venv-tools/bin/pip install tokenizers, "
            "and start this script with .venv-tools/bin/python (or use encode --bytes)"
        ) from error
    return tokenizers


class ByteEncoder:
    """Token = byte, as the trainer's own text reader has it."""

    description = "bytes"
    vocab_size = BYTE_VOCAB_SIZE
    end_of_document = BYTE_END_OF_DOCUMENT

    def encode_batch(self, batch):
        return [document for _, document in batch]


class BpeEncoder:
    """A tokenizer.json of the `tokenizers` package."""

    def __init__(self, path):
        tokenizers = import_tokenizers()
        data = read_file(path)
        try:
            self.tokenizer = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the package raises plain Exception
            raise DataError(f"{path}: is no tokenizer.json: {error}") from error
        # Text that spells out the special token stays text; only the end of a document is one.
        self.tokenizer.encode_special_tokens = True
        self.end_of_document = self.tokenizer.token_to_id(END_OF_DOCUMENT)
        if self.end_of_document is None:
            raise DataError(f"{path}: has no token {END_OF_DOCUMENT}; make the tokenizer with train-bpe")
        self.description = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.vocab_size = self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode_batch(self, batch):
        texts = [decode_utf8(path, document) for path, document in batch]
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]


def decode_utf8(path, document):
    try:
        return document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; convert it with iconv, or use encode --bytes") from error


def train_bpe(arguments):
    tokenizers = import_tokenizers()
    if arguments.vocab_size < BYTE_VOCAB_SIZE:
        raise DataError(f"--vocab-size {arguments.vocab_size} is less than {BYTE_VOCAB_SIZE} (256 bytes and the end of a document)")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=arguments.vocab_size,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    documents = read_documents(arguments.files, arguments.jsonl_key)
    tokenizer.train_from_iterator((decode_utf8(path, document) for path, document in documents), trainer)
    with replaced(arguments.out) as temporary:
        tokenizer.save(temporary)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size < arguments.vocab_size:
        print(f"note: the text has pairs for {size} tokens only, less than the {arguments.vocab_size} asked for")
    print(f"{arguments.out}: {size} tokens; {END_OF_DOCUMENT} is {tokenizer.token_to_id(END_OF_DOCUMENT)}")


# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def replaced(path):
    """A temporary name that becomes `path` when the block ends well, and is removed when it does not."""
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    temporary = f"{path}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def little_endian(type_code, values):
    stored = array.array(type_code)
    stored.extend(values)
    if sys.byteorder == "big":
        stored.byteswap()
    return stored.tobytes()


def write_index(path, dtype_code, token_bytes, lengths):
    pointers, position = [], 0
    for length in lengths:
        pointers.append(position)
        position += length * token_bytes
    with open(path, "wb") as file:
        file.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, dtype_code, len(lengths), len(lengths) + 1))
        file.write(little_endian("i", lengths))
        file.write(little_endian("q", pointers))
        file.write(little_endian("q", range(len(lengths) + 1)))


def write_ids(path, encoder, documents, type_code):
    """Writes the .bin file. Returns tokens of each document, text bytes in all, and the sha256."""
    lengths, num_bytes, digest = [], 0, hashlib.sha256()
    with open(path, "wb") as file:
        for batch in batches(documents):
            for (_, document), ids in zip(batch, encoder.encode_batch(batch)):
                stored = little_endian(type_code, itertools.chain(ids, [encoder.end_of_document]))
                file.write(stored)
                digest.update(stored)
                lengths.append(len(ids) + 1)
                num_bytes += len(document)
    return lengths, num_bytes, digest.hexdigest()


def encode(arguments):
    encoder = ByteEncoder() if arguments.bytes else BpeEncoder(arguments.tokenizer)
    type_code, token_bytes, dtype_code = ("H", 2, 8) if encoder.vocab_size < UINT16_VOCAB_LIMIT else ("i", 4, 4)
    prefix = arguments.out
    # Left in the reverse order, so the sidecar that vouches for the others comes last.
    with replaced(f"{prefix}.meta.json") as meta_path, replaced(f"{prefix}.idx") as index_path, replaced(f"{prefix}.bin") as ids_path:
        lengths, num_bytes, checksum = write_ids(ids_path, encoder, read_documents(arguments.files, arguments.jsonl_key), type_code)
        if not lengths:
            raise DataError(f"{' '.join(arguments.files)}: no documents")
        write_index(index_path, dtype_code, token_bytes, lengths)
        meta = {
            "tokenizer": encoder.description,
            "vocab_size": encoder.vocab_size,
            "end_of_document": encoder.end_of_document,
            "num_tokens": sum(lengths),
            "num_bytes": num_bytes,
            "num_documents": len(lengths),
            "sources": arguments.files,
            "sha256": checksum,
        }
        with open(meta_path, "w", encoding="utf-8") as file:
            file.write(json.dumps(meta, indent=2) + "\n")
    print(
        f"{prefix}.bin: {meta['num_documents']} documents, {meta['num_tokens']} tokens, {num_bytes / meta['num_tokens']:.3f} bytes a token; "
        f"set model.vocab_size: {encoder.vocab_size}"
    )


# ---------------------------------------------------------------- command line


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train_command = commands.add_parser("train-bpe", help="train a byte-level BPE tokenizer")
    train_command.add_argument("--vocab-size", type=int, required=True, help="tokens in all, 257 or more")
    train_command.add_argument("--out", required=True, help="tokenizer.json to write")
    train_command.set_defaults(run=train_bpe)

    encode_command = commands.add_parser("encode", help="encode text to PREFIX.bin, PREFIX.idx, PREFIX.meta.json")
    kind = encode_command.add_mutually_exclusive_group(required=True)
    kind.add_argument("--tokenizer", help="tokenizer.json of train-bpe")
    kind.add_argument("--bytes", action="store_true", help="token = byte; no package needed")
    encode_command.add_argument("--out", required=True, metavar="PREFIX")
    encode_command.set_defaults(run=encode)

    for command in (train_command, encode_command):
        command.add_argument("--jsonl-key", help="the files are JSONL; the documents stand under this key")
        command.add_argument("files", nargs="+", metavar="FILE")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        arguments.run(arguments)
    except DataError as error:
        return fail(error)
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")
    return 0


def fail(message):
    print(f"prepare_data: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
