"""Data in other files than MNIST's own: element types, columns, tables, and what is refused unread."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from ticketsearch import BadInput, load_dataset
from ticketsearch.datasets import dataset as dataset_module

pytestmark = pytest.mark.slow

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
Y = np.arange(60) % 3
IMAGES = np.random.default_rng(0).integers(0, 100, (60, 4, 5)).astype(np.uint8)


def idx_content(array, kind):
    head = bytes((0, 0, CODES[kind], array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(f">{kind}").tobytes()


def idx_folder(folder, x=IMAGES, y=Y, *, kinds=("u1", "u1"), names="{part}-{kind}-idx1-ubyte", test="t10k"):
    folder.mkdir(exist_ok=True)
    for part in ("train", test):
        for kind, array, element in (("images", x, kinds[0]), ("labels", y, kinds[1])):
            (folder / names.format(part=part, kind=kind)).write_bytes(idx_content(array, element))
    return f"idx:{folder}"


def refusal(name, **options):
    with pytest.raises(BadInput) as caught:
        load_dataset(name, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize("kind", CODES)
def test_idx_values_and_labels_of_every_element_type_are_read(tmp_path, kind):
    name = idx_folder(tmp_path / "tiny", kinds=(kind, kind))
    data = load_dataset(name, standardize="none")
    assert data.y_test.tolist() == Y.tolist()
    expected = IMAGES[:, None] / np.float32(255) if kind == "u1" else IMAGES[:, None].astype(np.float32)
    assert np.array_equal(data.x_test.numpy(), expected)


def test_idx_samples_of_other_dimensions_stay_as_they_are(tmp_path):
    features = np.arange(60 * 7).reshape(60, 7) % 11
    colour = np.arange(60 * 3 * 4 * 5).reshape(60, 3, 4, 5) % 7
    for array in (features, colour):
        data = load_dataset(idx_folder(tmp_path / "tiny", array, kinds=("i2", "u1")), standardize="none")
        assert np.array_equal(data.x_test.numpy(), array.astype(np.float32))


def test_labels_of_several_columns_are_read_by_the_column_that_the_refusal_asks_for(tmp_path):
    columns = np.column_stack([Y, *([np.arange(60)] * 7)])
    name = idx_folder(
        tmp_path / "qmnist", y=columns, kinds=("u1", "i4"), names="qmnist-{part}-{kind}-idx2-int"
    )
    assert "holds 8 values for each; give the option label" in refusal(name)
    assert load_dataset(name, label=0).y_test.tolist() == Y.tolist()
    assert "columns 0 to 7, but got label=8" in refusal(name, label=8)
    assert "one label a sample, but got label=1" in refusal(idx_folder(tmp_path / "one"), label=1)


def test_letters_that_count_from_one_are_renumbered_by_the_option_that_the_refusal_names(tmp_path):
    letters = 1 + np.arange(52) % 26
    images = np.zeros((52, 2, 2)) + letters[:, None, None]
    name = idx_folder(
        tmp_path / "emnist", images, letters, names="emnist-letters-{part}-{kind}-idx1-ubyte.gz", test="test"
    )
    assert "0 never occurs and 26 does" in (message := refusal(name))
    assert "renumber=True" in message
    data = load_dataset(name, renumber=True, validation=26)
    assert data.y_test.tolist() == (letters - 1).tolist()
    assert data.classes == 26


def test_a_folder_of_several_sets_asks_for_the_prefix_of_one(tmp_path):
    for prefix, labels in (("a-", Y), ("b-", Y[::-1])):
        name = idx_folder(tmp_path / "both", y=labels, names=prefix + "{part}-{kind}-idx3-ubyte")
    assert "give the option prefix, one of 'a-', 'b-'" in refusal(name)
    assert load_dataset(name, prefix="b-").y_test.tolist() == Y[::-1].tolist()
    assert "must hold c-train-labels" in refusal(name, prefix="c-")


def test_no_more_of_an_idx_file_is_unpacked_than_its_header_promises(tmp_path):
    name = idx_folder(tmp_path / "tiny")
    file = tmp_path / "tiny" / "train-images-idx1-ubyte"
    whole = file.read_bytes()
    file.write_bytes(gzip.compress(whole + bytes(2**25), 1))
    tracemalloc.start()
    try:
        message = refusal(name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"must have {len(whole)} bytes" in message
    assert f"but got {len(whole) + 1} or more" in message
    assert peak < 2**22
    file.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 60, 60000, 60000))
    assert "must hold at most 1,073,741,824 numbers" in refusal(name)


# npz


def saved(file, **arrays):
    np.savez_compressed(file, **arrays)
    return file.read_bytes()


def test_an_npz_larger_than_data_may_be_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "MAX_VALUES", 2**20)
    saved(tmp_path / "large.npz", x=np.zeros((2**12, 2**12), np.uint8), y=np.zeros(2**12, np.uint8))
    tracemalloc.start()
    try:
        message = refusal(f"npz:{tmp_path / 'large.npz'}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "array x must hold at most 1,048,576 numbers" in message
    assert peak < 2**22


def test_an_npz_whose_directory_and_headers_disagree_is_refused(tmp_path):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": "|u1", "fortran_order": False, "shape": (60, 10**6)}
    )
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as archive:
        archive.writestr("x.npy", content.getvalue())
        archive.writestr("y.npy", b"")
    message = refusal(f"npz:{tmp_path / 'liar.npz'}")
    assert "x.npy must have 60000128 bytes, but has 128" in message


def nested(count):
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': " + b"(" * count
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


@pytest.mark.parametrize("kind", ["lzma", "encrypted", "method", "version", "brackets"])
def test_an_npz_that_zipfile_or_numpy_refuses_in_any_way_is_refused_in_one_line(tmp_path, kind):
    file = tmp_path / "bad.npz"
    method = zipfile.ZIP_LZMA if kind == "lzma" else zipfile.ZIP_STORED
    array = io.BytesIO()
    np.save(array, np.arange(240, dtype=np.uint8).reshape(60, 4))
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x.npy", nested(3000) if kind == "brackets" else array.getvalue())
        archive.writestr("y.npy", array.getvalue())
    content = bytearray(file.read_bytes())
    central = content.index(b"PK\x01\x02")
    if kind == "lzma":
        content[44:60] = bytes(value ^ 255 for value in content[44:60])
    elif kind == "encrypted":
        content[6] = content[central + 8] = 1
    elif kind == "method":
        content[8] = content[central + 10] = 97
    elif kind == "version":
        content[central + 6] = 99
    file.write_bytes(content)
    message = refusal(f"npz:{file}")
    assert "cannot be read" in message or kind == "version"
    assert message.endswith("save arrays of numbers with numpy.savez")


# Tables


def written(file, text):
    file.write_text(text)
    return file


ROWS = [(i / 7, -i, "abc"[i % 3], i % 3) for i in range(60)]


def test_a_csv_is_read_with_and_without_a_header_by_the_column_of_labels(tmp_path):
    lines = [f"{a},{b},{d}" for a, b, _, d in ROWS]
    bare = written(tmp_path / "bare.csv", "\n".join(lines))
    headed = written(tmp_path / "headed.csv", "\n".join(["width,depth,kind", *lines]))
    first = written(
        tmp_path / "first.csv", "\n".join(["kind,width,depth", *(f"{d},{a},{b}" for a, b, _, d in ROWS)])
    )
    datasets = [
        load_dataset(f"csv:{bare}"),
        load_dataset(f"csv:{headed}"),
        load_dataset(f"csv:{headed}", label="kind"),
        load_dataset(f"csv:{first}", label="kind"),
        load_dataset(f"csv:{first}", label=0),
    ]
    assert len({data.fingerprint for data in datasets}) == 1
    assert datasets[0].input_shape == (2,)
    assert datasets[0].sizes == (36, 12, 12)
    last = load_dataset(f"csv:{bare}", split="last", standardize="none")
    assert last.y_test.tolist() == [row[3] for row in ROWS[48:]]
    assert last.x_test[:, 1].tolist() == [row[1] for row in ROWS[48:]]


def test_labels_of_a_csv_may_be_text_and_cells_quoted(tmp_path):
    lines = ["a;b;name", *(f'"{a}";{b};"{c}"' for a, b, c, _ in ROWS)]
    file = written(tmp_path / "text.csv", "\n".join(lines))
    data = load_dataset(f"csv:{file}", delimiter=";", split="last")
    assert data.y_test.tolist() == [row[3] for row in ROWS[48:]]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a,b,kind\n1,2,0\n1,0\n", {}, "cannot be read"),
        ("a,b,kind\n1,x,0\n1,2,1\n", {}, "could not convert string 'x'"),
        ("a,b,kind\n1,,0\n1,2,1\n", {}, "could not convert string ''"),
        ("a,b,kind\n1,2,0\n1,2,1\n", {"label": "kindd"}, "no column 'kindd' (did you mean 'kind'?)"),
        ("a,b,kind\n1,2,0\n1,2,1\n", {"label": 3}, "number from 0 to 2 or its name, but got 3"),
        ("1,2,0\n1,2,1\n", {"label": "kind"}, "number from 0 to 2, but got 'kind'"),
        ("1,2,0.5\n1,2,1\n", {}, "labels must be integers"),
        ("1;2;0\n1;2;1\n", {}, "has one column; check the delimiter"),
        ("", {}, "begins with an empty one"),
        ("1,2,1\n1,2,1\n", {"delimiter": ", "}, "a delimiter of csv is one character"),
        ("\x00\x01\n", {}, "one column"),
    ],
)
def test_a_csv_that_is_no_table_of_numbers_is_refused(tmp_path, text, options, said):
    assert said in refusal(f"csv:{written(tmp_path / 'bad.csv', text)}", **options)


def test_a_binary_or_missing_table_is_refused_with_its_name(tmp_path):
    file = tmp_path / "bytes.csv"
    file.write_bytes(b"\xff\xfe\x00" * 9)
    for kind in ("csv", "libsvm"):
        assert str(file) in refusal(f"{kind}:{file}")
        assert f"dataset {kind}: no file" in refusal(f"{kind}:{tmp_path / 'none'}")


def test_libsvm_files_are_sparse_samples_whose_labels_may_be_signs(tmp_path):
    lines = [f"{2 * (i % 2) - 1:+d} 1:{i} {'3:0.5' if i % 3 else ''}" for i in range(60)]
    file = written(tmp_path / "signs", "\n".join(lines))
    assert "renumber=True" in refusal(f"libsvm:{file}")
    data = load_dataset(f"libsvm:{file}", renumber=True, split="last", standardize="none")
    assert data.y_test.tolist() == [i % 2 for i in range(48, 60)]
    assert data.x_test.tolist() == [[i, 0, 0.5 if i % 3 else 0] for i in range(48, 60)]
    wide = written(tmp_path / "wide", "1 1:1 900000000:1\n0 1:1\n")
    assert "must hold at most" in refusal(f"libsvm:{wide}")


# CIFAR-10's archives


@pytest.mark.parametrize("kind", ["member", "name"])
def test_an_archive_that_unpacks_to_more_than_cifar10_is_refused_within_bounds(tmp_path, kind):
    member = tarfile.TarInfo("data_batch_1.bin")
    member.size = 2**27
    if kind == "name":
        member.name, member.type = "././@LongLink", tarfile.GNUTYPE_LONGNAME
    packed = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(2**22)
    with (tmp_path / "cifar-10-binary.tar.gz").open("wb") as file:
        file.write(packed.compress(member.tobuf()))
        for _ in range(2**27 // len(zeros)):
            file.write(packed.compress(zeros))
        file.write(packed.flush())
    tracemalloc.start()
    try:
        message = refusal(f"cifar10:{tmp_path}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "is larger" in message
    assert peak < 200 * 2**20
