"""Names: what a text resolves to, and what is said when it resolves to nothing."""

import math
import os.path
import subprocess
import sys
from functools import partial
from types import ModuleType

import pytest
from conftest import refusal

from ticketsearch.errors import nearest, unknown
from ticketsearch.plugins import check_options, listed, resolve


def folder(path, classes=3, *, scale="none"):
    return path, classes, scale


def optional(network, widths="1", *, bias=True):
    return network, widths, bias


def keywords_only(mask, *, rate=0.1):
    return mask, rate


def anything(**options):
    return options


KNOWN = {f.__name__: f for f in (folder, optional, keywords_only, anything)}


@pytest.fixture
def mine(tmp_path):
    """Write a file of the user's and return what puts text into it."""

    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# Known names


def test_a_known_name_is_the_function_itself():
    assert resolve("optional", KNOWN, "model", ("network",)) is optional
    assert resolve("keywords_only", KNOWN, "mutation", ("mask",)) is keywords_only
    assert resolve("anything", KNOWN, "thing") is anything


def test_what_follows_a_colon_is_the_first_parameter_that_the_caller_does_not_give():
    assert resolve("optional:300,100", KNOWN, "model", ("network",))(7) == (7, "300,100", True)
    assert resolve("folder:some/where", KNOWN, "dataset")() == ("some/where", 3, "none")


def test_all_that_follows_the_first_colon_is_the_argument():
    assert resolve("folder:C:/data:x", KNOWN, "dataset")()[0] == "C:/data:x"
    assert resolve("folder:some/file.py:x", KNOWN, "dataset")()[0] == "some/file.py:x"


def test_a_name_that_needs_an_argument_says_so():
    assert (
        refusal(resolve, "folder", KNOWN, "dataset") == "dataset 'folder' needs its path: write folder:PATH"
    )


def test_a_name_that_takes_no_argument_says_so():
    message = refusal(resolve, "keywords_only:3", KNOWN, "mutation", ("mask",))
    assert message == "mutation 'keywords_only' takes nothing after a colon, but got keywords_only:3"
    assert "takes nothing after a colon" in refusal(resolve, "anything:", KNOWN, "thing")


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    assert refusal(resolve, "optinal", KNOWN, "model") == (
        "unknown model 'optinal' (did you mean 'optional'?): known are anything, folder, "
        "keywords_only, optional; file.py:function names one of your own"
    )


@pytest.mark.parametrize("text", ["", ":", "zzzz", "zzzz:3", "file.py", "a b.c:d", "a..b:c", "zzzz.py"])
def test_a_text_that_is_no_name_is_unknown(text):
    assert refusal(resolve, text, KNOWN, "model").startswith("unknown model ")


def test_listed_are_the_functions_that_a_module_exports():
    module = ModuleType("nouns")
    module.__all__ = ["folder"]
    module.folder, module.optional = folder, optional
    assert listed(module) == {"folder": folder}


# The user's own


def test_a_function_in_a_file(mine):
    path = mine("def load(n=3):\n    return n * 2\n")
    assert resolve(f"{path}:load", KNOWN, "dataset")(21) == 42


def test_a_file_in_a_folder_with_a_colon(mine, tmp_path):
    (tmp_path / "a:b").mkdir()
    path = mine("def load():\n    return 1\n", "a:b/mine.py")
    assert resolve(f"{path}:load", KNOWN, "dataset")() == 1


def test_a_file_may_hold_a_dataclass_with_annotations_as_text(mine):
    path = mine(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Pair:\n    left: int\n    right: int = 2\n"
    )
    assert resolve(f"{path}:Pair", KNOWN, "model")(1).right == 2


def test_a_file_hides_no_module_of_the_same_name(mine):
    path = mine("import math\ndef load():\n    return math.pi\n", "math.py")
    assert resolve(f"{path}:load", KNOWN, "dataset")() == math.pi
    assert sys.modules["math"] is math


def test_loading_a_file_lists_no_module(mine):
    # Workers cannot import it by name, so it must be sent to them by value, as cloudpickle does then.
    path = mine("def load():\n    return 1\n")
    before = set(sys.modules)
    assert resolve(f"{path}:load", KNOWN, "dataset").__module__ not in sys.modules
    assert set(sys.modules) == before


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "absent.py"
    assert refusal(resolve, f"{path}:load", KNOWN, "dataset") == f"dataset: no file {str(path)!r}"


def test_a_missing_function_is_named_with_the_nearest(mine):
    path = mine("def load_data():\n    pass\nX = 3\n")
    message = refusal(resolve, f"{path}:load_dat", KNOWN, "dataset")
    assert message.endswith("no function 'load_dat' there (did you mean 'load_data'?)")
    assert "no function 'X' there" in refusal(resolve, f"{path}:X", KNOWN, "dataset")
    assert "no function '' there" in refusal(resolve, f"{path}:", KNOWN, "dataset")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def load(:\n", "does not load (SyntaxError: "),
        ("import absent_package_xyz\n", "does not load (ModuleNotFoundError: "),
        ("raise RuntimeError('two\\nlines')\n", "does not load (RuntimeError: two lines)"),
    ],
)
def test_a_file_that_does_not_load_says_why_on_one_line(mine, text, words):
    path = mine(text)
    before = set(sys.modules)
    message = refusal(resolve, f"{path}:load", KNOWN, "dataset")
    assert words in message
    assert str(path) in message
    assert set(sys.modules) == before


def test_a_function_in_a_package():
    assert resolve("os.path:join", KNOWN, "dataset") is os.path.join


def test_a_missing_package_module_or_function_is_named():
    assert "cannot import 'absent_xyz.data'" in refusal(resolve, "absent_xyz.data:load", KNOWN, "dataset")
    assert "cannot import 'os.absent'" in refusal(resolve, "os.absent:load", KNOWN, "dataset")
    assert "(did you mean 'join'?)" in refusal(resolve, "os.path:joim", KNOWN, "dataset")


def test_a_package_that_fails_says_why_on_one_line(tmp_path, monkeypatch):
    package = tmp_path / "ticketsearch_test_broken"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "data.py").write_text("raise ValueError('two\\nlines')\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = refusal(resolve, "ticketsearch_test_broken.data:load", KNOWN, "dataset")
    assert message.endswith("cannot import 'ticketsearch_test_broken.data' (ValueError: two lines)")
    sys.modules.pop("ticketsearch_test_broken")


# Options


def test_options_that_a_function_takes_pass():
    check_options(optional, {"widths": "3", "bias": False}, "model", "optional")
    check_options(anything, {"whatever": 1}, "thing", "anything")
    check_options(keywords_only, {}, "mutation", "keywords_only")


def test_an_unknown_option_is_named_with_the_nearest_and_the_known():
    message = refusal(check_options, optional, {"bais": False}, "model", "optional")
    assert message == "model 'optional' has no option 'bais' (did you mean 'bias'?): it takes widths, bias"


def test_what_the_caller_or_the_name_gives_is_no_option():
    assert "no option 'network'" in refusal(check_options, optional, {"network": 1}, "model", "optional")
    bound = resolve("optional:300", KNOWN, "model", ("network",))
    message = refusal(check_options, bound, {"widths": "3"}, "model", "optional:300")
    assert message.endswith("has no option 'widths': it takes bias")
    check_options(bound, {"bias": True}, "model", "optional:300")


def test_a_function_without_options_says_so():
    message = refusal(check_options, partial(keywords_only, rate=1), {"rate": 2}, "mutation", "m")
    assert message == "mutation 'm' has no option 'rate': it takes none"


# The words of errors


def test_the_nearest_is_named_only_if_it_is_near():
    assert nearest("digit", ["digits", "mnist1d"]) == " (did you mean 'digits'?)"
    assert nearest("zzz", ["digits", "mnist1d"]) == ""
    assert nearest("zzz", []) == ""


def test_an_unknown_name_without_a_way_out():
    assert str(unknown("scheme", "x", ["b", "a"])) == "unknown scheme 'x': known are a, b"


def test_resolving_needs_no_torch():
    code = "import sys, ticketsearch.plugins, ticketsearch.masks; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
