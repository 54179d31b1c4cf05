"""Checks the promises of SECURITY.md against the source of the package."""

import ast
import pathlib

import pytest

import mixaug_jax

ROOT = pathlib.Path(mixaug_jax.__file__).parent
TREES = {
  str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8"))
  for path in sorted(ROOT.rglob("*.py"))
}


def _imported(tree):
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module or ""


def _calls(tree):
  for node in ast.walk(tree):
    if isinstance(node, ast.Call):
      yield ast.unparse(node.func), {k.arg: k.value for k in node.keywords}


@pytest.mark.parametrize("name", TREES)
def test_modules_that_execute_their_input_are_not_imported(name):
  barred = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal"}
  barred |= {"shelve", "runpy", "yaml"}
  allowed = {"config.py": {"runpy"}}  # A config file is the user's program.
  found = {module.partition(".")[0] for module in _imported(TREES[name])}
  assert found & barred == allowed.get(name, set())


@pytest.mark.parametrize("name", TREES)
def test_numpy_loads_no_pickle_and_no_archive_is_unpacked(name):
  for function, keywords in _calls(TREES[name]):
    if function in ("np.load", "numpy.load"):
      assert ast.unparse(keywords["allow_pickle"]) == "False"
    assert function not in ("eval", "exec", "torch.load", "pickle.load")
    assert function not in ("pickle.loads", "os.system")
    assert not function.endswith((".extract", ".extractall", "unpack_archive"))
    assert "shell" not in keywords


def test_a_name_in_a_weight_file_is_not_looked_up():
  calls = {function for function, _ in _calls(TREES["weights/torch_file.py"])}
  assert not calls & {"__import__", "getattr", "importlib.import_module"}


@pytest.mark.parametrize("name", TREES)
def test_weights_are_opened_by_the_readers_that_check_them(name):
  """`h5py.File` follows links, and `ZipFile` trusts what a file declares."""
  calls = [function for function, _ in _calls(TREES[name])]
  if name != "weights/archives.py":
    assert "zipfile.ZipFile" not in calls
  if name not in ("weights/hdf5_file.py", "weights/formats.py"):
    assert "h5py.File" not in calls  # The second of these writes.


@pytest.mark.parametrize("name", TREES)
def test_every_url_uses_https(name):
  for node in ast.walk(TREES[name]):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      assert "http://" not in node.value
