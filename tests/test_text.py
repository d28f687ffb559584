"""Text files in, batches of tokens out."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgfo import Batch
from jaxgfo.io import text


class Letters:
    """One token a letter, a = 1."""

    def __call__(self, documents, verbose=True):
        def ids(document):
            return [ord(letter) - 96 for letter in document]

        return {
            "input_ids": ids(documents) if isinstance(documents, str) else [*map(ids, documents)]
        }


def lines(*documents, field="text"):
    return "\n".join(json.dumps({field: d}) for d in documents)


def rows(count, length=2):
    tokens = jnp.arange(count * length, dtype=jnp.int32).reshape(count, length)
    return Batch(tokens, tokens % 3 > 0)


def test_a_text_file_is_packed_into_rows_without_gaps(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("abcdefgh")
    batch = text.read_batch(file, Letters(), 3)
    np.testing.assert_array_equal(batch.tokens, [[1, 2, 3], [4, 5, 6]])
    assert batch.tokens.dtype == jnp.int32
    assert batch.mask.all()
    assert text.read_batch(file, Letters(), 8).tokens.shape == (1, 8)


def test_documents_are_cut_padded_on_the_right_and_masked_there(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(lines("abc", "a", "", "defgh") + "\n\n")
    batch = text.read_batch(str(file), Letters(), 4)
    # "a" and what is left of "defgh" have nothing to predict.
    np.testing.assert_array_equal(batch.tokens, [[1, 2, 3, 0], [4, 5, 6, 7]])
    np.testing.assert_array_equal(batch.mask, [[1, 1, 1, 0], [1, 1, 1, 1]])
    cut = text.read_batch(file, Letters(), 2)
    np.testing.assert_array_equal(cut.tokens, [[1, 2], [4, 5], [6, 7]])


def test_another_field(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(lines("ab", field="story"))
    assert text.read_text(file, "story") == ["ab"]
    assert text.read_batch(file, Letters(), 2, field="story").tokens.tolist() == [[1, 2]]


def test_unusual_letters_survive(tmp_path):
    document = "naïve \u2028 \x85 “quoted”\n\r\n"
    line = json.dumps({"text": document}, ensure_ascii=False)
    for start, end in [("", "\n"), ("\ufeff", "\r\n")]:
        (tmp_path / "a.jsonl").write_bytes(f"{start}{line}{end}{line}".encode())
        assert text.read_text(tmp_path / "a.jsonl") == [document, document]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", " \n\t", "a.txt is empty"),
        ("a.txt", "ab", "a.txt: the text has 2 tokens.*shorter than one sequence of 3"),
        ("a.txt", b"\xff\xfe", "a.txt is not UTF-8"),
        ("a.jsonl", "\n\n", "a.jsonl is empty"),
        ("a.jsonl", lines("", " "), "a.jsonl is empty"),
        ("a.jsonl", lines("a", "b"), "a.jsonl: none of the 2 documents has two tokens"),
        ("a.jsonl", lines("ab") + "\n{", r'a.jsonl, line 2: expected a JSON object with "text"'),
        ("a.jsonl", '{"story": "ab"}', r"a.jsonl, line 1: .*got '\{\"story\""),
        ("a.jsonl", "[1]", "a.jsonl, line 1: expected a JSON object"),
        ("a.jsonl", '"ab"', "a.jsonl, line 1: expected a JSON object"),
        ("a.jsonl", lines(7), 'a.jsonl, line 1: "text" is 7; expected a string'),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        text.read_batch(file, Letters(), 3)


@pytest.mark.parametrize("name", ["nothing.txt", "."])
def test_a_missing_file_is_told(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"no such file; expected a text or \.jsonl file"):
        text.read_text(tmp_path / name)


@pytest.mark.parametrize(
    ("count", "wanted", "chosen"),
    [(5, 3, [0, 2, 4]), (4, 4, [0, 1, 2, 3]), (3, 9, [0, 1, 2]), (9, 1, [0])],
)
def test_rows_are_spread_from_first_to_last(count, wanted, chosen):
    batch = rows(count)
    some = text.spread(batch, wanted)
    np.testing.assert_array_equal(some.tokens, batch.tokens[np.array(chosen)])
    np.testing.assert_array_equal(some.mask, batch.mask[np.array(chosen)])


@pytest.mark.parametrize(("count", "held"), [(2, 1), (9, 1), (20, 2), (26, 3)])
def test_the_last_rows_are_held_out(count, held):
    batch = rows(count)
    kept, rest = text.split(batch, 0.1)
    assert rest.tokens.shape[0] == held
    for whole, *parts in zip(batch, kept, rest):
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="one sequence only, so none can be held out"):
        text.split(rows(1), 0.1)


@pytest.mark.parametrize(("count", "size", "number"), [(5, 2, 3), (4, 2, 2), (3, 8, 1), (1, 1, 1)])
def test_batches_have_one_shape_and_are_filled_with_masked_rows(count, size, number):
    batch = rows(count)
    parts = list(text.batches(batch, size))
    assert len(parts) == number
    assert {part.tokens.shape for part in parts} == {(min(size, count), 2)}
    for whole, pieces in zip(batch, zip(*parts)):
        np.testing.assert_array_equal(np.concatenate(pieces)[:count], whole)
    assert not np.concatenate([part.mask for part in parts])[count:].any()
