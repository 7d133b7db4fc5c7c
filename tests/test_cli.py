"""The command `attn`: what users type, and what they mistype."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from attn import cli
from attn.cli import main
from attn.tasks import TASKS, numbers
from attn.training.checkpoint import load

TINY = ["--d-model", "16", "--layers", "1", "--heads", "2", "--device", "cpu"]
FILE = Path("runs/numbers/checkpoint.safetensors")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True, scope="module")
def _few_numbers():
    """Numbers below a thousand: 85 to learn from, 100 to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "load", partial(numbers.load, limit=1000, train=85))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(the folder of a model that has seen three batches, what its training printed)."""
    out, printed = tmp_path_factory.mktemp("trained"), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        assert main(["train", "numbers", "--steps", "3", "--out", str(out), *TINY]) == 0
    return out, printed.getvalue()


def _complaint(capsys):
    """The one line on stderr."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("checks", ["1", "0"])
def test_the_command_starts_with_and_without_shape_checks(checks):
    command = [sys.executable, "-m", "attn.cli", "--help"]
    environment = {**os.environ, "ATTN_CHECK_SHAPES": checks}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_training_says_what_it_does_and_what_is_next(trained):
    out, printed = trained
    assert "train 85" in printed
    assert "exact_match on 100 test sentences" in printed
    assert f"checkpoint: {out / FILE.name}" in printed
    assert f'attn translate "seven hundred and forty-two" --from {out}' in printed.splitlines()[-1]
    assert (out / FILE.name).exists()


def test_translate_a_sentence(trained, capsys):
    assert (
        main(["translate", "seven hundred and forty-two", "12", "--from", str(trained[0]), "--beam", "2"])
        == 0
    )
    out, err = capsys.readouterr()
    assert out.count("\n") == 2
    assert err == "(not right: it is siebenhundertzweiundvierzig)\n(not right: it is zwölf)\n"


def test_translate_says_when_a_number_is_exactly_right(trained, capsys, monkeypatch):
    monkeypatch.setattr("attn.training.translate", lambda *_, **__: ["zwölf"])
    assert main(["translate", "twelve", "--from", str(trained[0] / FILE.name)]) == 0
    assert capsys.readouterr() == ("zwölf\n", "(exactly right)\n")


def test_translate_lines_of_standard_input(trained, capsys, monkeypatch):
    monkeypatch.setattr("attn.training.translate", lambda model, task, sentences, **_: sentences)
    monkeypatch.setattr(sys, "stdin", io.StringIO("twelve\n\n742\n"))
    assert main(["translate", "--from", str(trained[0])]) == 0
    assert capsys.readouterr().out == "twelve\n\nseven hundred and forty two\n"


def test_resume_gives_the_run_that_was_never_stopped(trained, capsys):
    out = trained[0]
    FILE.parent.mkdir(parents=True)
    FILE.write_bytes((out / FILE.name).read_bytes())
    assert main(["train", "numbers", "--resume", "--steps", "4", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith('next: attn translate "seven hundred and forty-two"\n')
    before, after = load(out / FILE.name).about, load(FILE).about
    assert after["model"] == before["model"]
    assert after["history"]["losses"][:3] == before["history"]["losses"]
    assert len(after["history"]["losses"]) == 4


def test_another_language(capsys):
    assert main(["train", "numbers", "--language", "fr", "--steps", "1", *TINY]) == 0
    capsys.readouterr()
    assert main(["translate", "seventy"]) == 0
    assert "soixante-dix" in capsys.readouterr().err


def test_a_new_run_announces_that_it_replaces_the_old_one(trained, capsys):
    FILE.parent.mkdir(parents=True)
    FILE.write_bytes((trained[0] / FILE.name).read_bytes())
    assert main(["train", "numbers", "--steps", "1", *TINY]) == 0
    assert "is there already" in capsys.readouterr().out


def test_interrupted_for_real(folder):
    """Ctrl-C during training: exit code 130, a checkpoint, and one line that says how to go on."""
    command = [sys.executable, "-m", "attn.cli", "train", "numbers", "--steps", "100000", *TINY]
    environment = os.environ | {"ATTN_CHECK_SHAPES": "0"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    heard = b""
    while b"loss=" not in heard and process.poll() is None:  # the progress bar: training is under way
        heard += os.read(process.stderr.fileno(), 4096)
    process.send_signal(signal.SIGINT)
    heard += process.stderr.read()
    assert process.wait() == 130
    assert b"Traceback" not in heard
    assert heard.decode().rstrip().endswith("go on with: attn train numbers --resume")
    assert load(FILE).about["steps"] == 100000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required"),
        ("fly", "invalid choice: 'fly'"),
        ("train", "required: TASK"),
        ("train chess", "no task is called 'chess'; the tasks are: numbers, multi30k"),
        ("train numbers --steps 0", "--steps: must be a whole number, at least 1; given '0'"),
        ("train numbers --steps many", "given 'many'"),
        ("train numbers --steps 1 --epochs 1", "not allowed with"),
        ("train numbers --learning-rate 0", "more than 0"),
        ("train numbers --learning-rate nan", "given 'nan'"),
        ("train numbers --dropout 1", "less than 1"),
        ("train numbers --device abacus", "device 'abacus' is not here"),
        ("train numbers --precision fp8", "invalid choice: 'fp8'"),
        ("train numbers --colour red", "unrecognized arguments"),
        ("train numbers --language klingon", "klingon"),
        ("train numbers --d-model 15 --heads 2", "15"),
        ("train numbers --resume", "there is no checkpoint runs/numbers/checkpoint.safetensors"),
        ("translate twelve", "there is no trained model in runs/numbers; first: attn train numbers"),
        ("translate hello --from runs/multi30k", "first: attn train multi30k"),
        ("translate twelve --beam 0", "--beam: must be a whole number"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("attn.training.fit", _fit_up_to_the_device)
    assert main(arguments.split()) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def _fit_up_to_the_device(*_, device, **__):
    from attn.training import pick_device

    pick_device(device)
    raise AssertionError("this input should not have been accepted")


def test_multi30k_without_data_says_both_ways(capsys, monkeypatch):
    from attn.tasks import download

    def offline(file, folder):
        raise download.DataUnavailable("connect to the network, or set ATTN_DATA")

    monkeypatch.setattr("attn.tasks.multi30k.fetch", offline)
    assert main(["train", "multi30k"]) == 2
    assert "connect to the network, or set ATTN_DATA" in _complaint(capsys)


def test_an_empty_folder_names_the_command_for_it(folder, capsys):
    (folder / "mine").mkdir()
    assert main(["translate", "twelve", "--from", "mine"]) == 2
    assert "attn train numbers --out mine" in _complaint(capsys)


def test_a_damaged_checkpoint(folder, capsys):
    FILE.parent.mkdir(parents=True)
    FILE.write_bytes(b"not a model")
    assert main(["translate", "twelve"]) == 2
    assert "is not a whole safetensors file" in _complaint(capsys)
    assert main(["train", "numbers", "--resume"]) == 2
    assert FILE.read_bytes() == b"not a model"


def test_what_is_no_number_does_not_stop_the_rest(trained, capsys, monkeypatch):
    monkeypatch.setattr("attn.training.translate", lambda model, task, sentences, **_: sentences)
    assert main(["translate", "a dog", "12", "--from", str(trained[0])]) == 2
    out, err = capsys.readouterr()
    assert out == "\ntwelve\n"
    assert "'a dog' is no number" in err.splitlines()[0]


@pytest.mark.parametrize("option", ["--d-model 32", "--batch-size 8", "--language fr", "--epochs 2"])
def test_options_that_a_resumed_run_may_not_change(trained, option, capsys):
    assert main(["train", "numbers", "--resume", "--out", str(trained[0]), *option.split()]) == 2
    assert option.split()[0].lstrip("-") in _complaint(capsys) or option.startswith("--epochs")


def test_resume_of_another_task(trained, capsys):
    assert main(["train", "multi30k", "--resume", "--out", str(trained[0])]) == 2
    assert "is of the task numbers" in _complaint(capsys)


def test_a_folder_that_cannot_be_written_is_noticed_before_training(folder, capsys):
    (folder / "file").write_text("")
    assert main(["train", "numbers", "--out", "file"]) == 2
    assert "choose another with --out" in _complaint(capsys)


def test_every_task_has_a_recipe():
    assert cli.RECIPES.keys() == TASKS.keys()


def test_help(capsys):
    assert main(["train", "--help"]) == 0
    assert "torchrun" in capsys.readouterr().out


def test_wrong_options_are_answered_without_torch():
    code = "import sys; from attn.cli import main; main(['train']); print('torch' in sys.modules)"
    environment = os.environ | {"ATTN_CHECK_SHAPES": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
