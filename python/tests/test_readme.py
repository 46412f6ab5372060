import pathlib
import re


def test_the_first_program(capsys):
    readme = pathlib.Path(__file__).parents[1] / "README.md"
    program = re.search(r"^```python\n(.*?)^```$", readme.read_text(), flags=re.S | re.M)[1]
    names = {}
    exec(program, names)
    said = capsys.readouterr().out
    assert "epoch 4 of 4: loss" in said and "INT8: " in said and "before" in said and "conv1" in said
    assert names["scores"].shape == (8, 10) and names["small"].evaluate().accuracy > 0.9
