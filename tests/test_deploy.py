"""The snippets of docs/deploy.md are run as they stand there, on an exported model and in a process without tfbnas."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfbnas import predict

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs/deploy.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
(CPP,) = re.findall(r"```c\+\+\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON, ids=["saved_model", "keras", "lce"])
def test_python_gives_the_class_that_tfbnas_gives(code, exported):
    # What tfbnas set for this process would hide that an application has to set it.
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    code += "\nimport sys\nassert 'tfbnas' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=exported, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shares = {name: float(share) for name, share in re.findall(r"^(\w+) (\d+\.\d) %$", done.stdout, re.MULTILINE)}
    assert list(shares) == ["ant", "bee", "cat", "dog"], done.stdout
    best, _ = predict.Classifier(exported).predict(exported / "photo.jpg", top=1).classes[0]
    assert max(shares, key=shares.get) == best


# What the program uses of TensorFlow Lite and LCE, declared as they declare it. The "network" gives the mean of each
# colour.
STAND_IN = """
#pragma once
#include <memory>
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TfLiteIntArray { int size; int data[4]; };
struct TfLiteTensor { TfLiteIntArray* dims; };
namespace tflite {
struct FlatBufferModel {
  static std::unique_ptr<FlatBufferModel> BuildFromFile(const char*) { return std::make_unique<FlatBufferModel>(); }
};
struct MutableOpResolver {};
namespace ops { namespace builtin { struct BuiltinOpResolver : MutableOpResolver {}; } }
struct Interpreter {
  TfLiteIntArray shape{4, {1, 2, 3, 3}};
  TfLiteTensor tensor{&shape};
  float in[18], out[3];
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  const TfLiteTensor* input_tensor(size_t) const { return &tensor; }
  template <class T> T* typed_input_tensor(int) { return in; }
  template <class T> T* typed_output_tensor(int) { return out; }
  TfLiteStatus Invoke() {
    for (int c = 0; c < 3; c++) { out[c] = 0; for (int i = 0; i < 6; i++) out[c] += in[3 * i + c] / 6; }
    return kTfLiteOk;
  }
};
struct InterpreterBuilder {
  InterpreterBuilder(const FlatBufferModel&, const MutableOpResolver&) {}
  TfLiteStatus operator()(std::unique_ptr<Interpreter>* made) {
    *made = std::make_unique<Interpreter>();
    return kTfLiteOk;
  }
};
}
namespace compute_engine { namespace tflite { inline void RegisterLCECustomOps(::tflite::MutableOpResolver*) {} } }
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_cpp_program_compiles_and_reads_images(tmp_path):
    for header in re.findall(r'#include "(.*)"', CPP):
        file = tmp_path / header
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('#include "stand_in.h"\n')
    (tmp_path / "stand_in.h").write_text(STAND_IN)
    (tmp_path / "classify.cc").write_text(CPP)
    made = ["g++", "-std=c++17", "-Wall", "-Werror", f"-I{tmp_path}", "classify.cc", "-o", "classify"]
    done = subprocess.run(made, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    (tmp_path / "photo.ppm").write_bytes(b"P6\n3 2\n255\n" + bytes([3, 0, 1] * 6))
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")

    def run(*arguments):
        return subprocess.run([tmp_path / "classify", *arguments], cwd=tmp_path, capture_output=True, text=True)

    powers = np.exp(np.array([3, 0, 1], float))
    shares = zip(["red", "green", "blue"], powers / powers.sum(), strict=True)
    expected = [f"{name} {100 * share:.1f} %" for name, share in shares]
    found = run("model.tflite", "photo.ppm", "labels.txt").stdout.splitlines()
    assert [" ".join(line.split()) for line in found] == expected
    (tmp_path / "photo.ppm").write_bytes(b"P6\n2 2\n255\n" + bytes(12))
    refused = run("model.tflite", "photo.ppm", "labels.txt")
    assert refused.returncode == 1 and "expected a PPM image of 3x2 pixels" in refused.stderr


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", DOCUMENT):
        assert (Path(__file__).resolve().parents[1] / "docs" / target).exists(), target
