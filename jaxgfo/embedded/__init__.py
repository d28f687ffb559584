"""The default model and text: a small Llama, and stories it was not trained on.

Both are made by `scripts/make_embedded.py` from text that the project generates itself.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
MODEL = FOLDER / "model"  # a Hugging Face folder
TRAIN = FOLDER / "train.txt"  # stories of the shifted domain
VALIDATION = FOLDER / "validation.txt"  # others of the same domain
