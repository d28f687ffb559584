"""What a population is scored by: a function of parameters and a batch, minimised."""

from .perplexity import Batch as Batch
from .perplexity import MeanNLL as MeanNLL
from .perplexity import perplexity as perplexity
