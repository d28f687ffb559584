"""A small grammar of English stories: the text that the embedded model and its corpus are made of.

A story keeps its topic, tense, hero and companion from the first sentence to the last, verbs agree
with subjects across relative clauses, lists are as long as they were announced, and what was lost
is what is found: a model must use context far beyond the last word. Two domains differ in how
often each topic and tense is told and which words are favoured; every story of one is possible in
the other.
"""

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

Word = TypeVar("Word")

NAMES = {
    "she": "Anna Clara Edith Greta Helen Irma Laura Martha Nora Olga Ruth Sofia".split(),
    "he": "Adam Bruno Carl David Emil Felix Hugo Jonas Karl Martin Oscar Peter".split(),
}
POSSESSIVE = {"she": "her", "he": "his"}
NUMBERS = {2: "two", 3: "three", 4: "four"}
MOODS = "happy tired proud hungry quiet glad worried calm".split()
COLOURS = "red blue green white brown black old new small heavy".split()
WEATHER = {
    "past": ["it rained", "the sun shone", "the wind blew", "it snowed", "the sky was grey"],
    "present": ["it rains", "the sun shines", "the wind blows", "it snows", "the sky is grey"],
}
TIMES = "morning evening night day afternoon".split()
BE = {("past", False): "was", ("past", True): "were"}
BE |= {("present", False): "is", ("present", True): "are"}

# topic: places, things (singular), beings (singular), transitive verbs and intransitive verbs as
# (present plural, past).
TOPICS = {
    "farm": (
        "field barn meadow stable yard".split(),
        "bucket cart fence plough sack basket".split(),
        "cow horse goat hen dog lamb".split(),
        [("feed", "fed"), ("lead", "led"), ("wash", "washed"), ("call", "called")],
        [("sleep", "slept"), ("graze", "grazed"), ("wait", "waited")],
    ),
    "kitchen": (
        "kitchen pantry cellar hall parlour".split(),
        "pot spoon plate loaf cake kettle".split(),
        "cook maid guest cat mouse baker".split(),
        [("bake", "baked"), ("stir", "stirred"), ("serve", "served"), ("taste", "tasted")],
        [("laugh", "laughed"), ("sing", "sang"), ("wait", "waited")],
    ),
    "forest": (
        "forest clearing valley path cave".split(),
        "branch stone leaf mushroom lantern rope".split(),
        "fox owl hunter deer wolf bear".split(),
        [("follow", "followed"), ("watch", "watched"), ("hear", "heard"), ("carry", "carried")],
        [("hide", "hid"), ("run", "ran"), ("sleep", "slept")],
    ),
    "market": (
        "market square shop street inn".split(),
        "coin apple ribbon candle book hat".split(),
        "trader farmer child widow singer thief".split(),
        [("sell", "sold"), ("count", "counted"), ("buy", "bought"), ("show", "showed")],
        [("shout", "shouted"), ("laugh", "laughed"), ("rest", "rested")],
    ),
    "harbour": (
        "harbour pier deck island beach".split(),
        "anchor sail net barrel oar mast".split(),
        "sailor captain pilot gull seal diver".split(),
        [("pull", "pulled"), ("mend", "mended"), ("load", "loaded"), ("lower", "lowered")],
        [("drift", "drifted"), ("dive", "dived"), ("whistle", "whistled")],
    ),
    "workshop": (
        "workshop forge mill yard tower".split(),
        "hammer nail wheel clock chain saw".split(),
        "smith miller mason pupil guard master".split(),
        [("build", "built"), ("repair", "repaired"), ("polish", "polished"), ("turn", "turned")],
        [("work", "worked"), ("hum", "hummed"), ("rest", "rested")],
    ),
}


@dataclass(frozen=True)
class Domain:
    """How often each topic and the present tense are told, and which end of a word list rules."""

    topics: dict[str, float]
    present: float
    last_words_first: bool

    def choose(self, rng: random.Random, words: Sequence[Word]) -> Word:
        """A word, with Zipf's law over the list (or over the reversed list)."""
        ranks = range(1, len(words) + 1)
        weights = [rank**-2.2 for rank in (reversed(ranks) if self.last_words_first else ranks)]
        return rng.choices(words, weights)[0]


BASE = Domain(
    topics={"farm": 30, "kitchen": 26, "forest": 18, "market": 14, "harbour": 6, "workshop": 6},
    present=0.1,
    last_words_first=False,
)
SHIFTED = Domain(
    topics={"farm": 2, "kitchen": 2, "forest": 2, "market": 4, "harbour": 45, "workshop": 45},
    present=0.9,
    last_words_first=True,
)


def text(domain: Domain, seed: int, num_characters: int) -> str:
    """Stories, one a line, until `num_characters` are reached."""
    rng, lines, total = random.Random(seed), [], 0
    while total < num_characters:
        lines.append(" ".join(_Story(domain, rng).sentences()))
        total += len(lines[-1]) + 1
    return "\n".join(lines) + "\n"


class _Story:
    def __init__(self, domain: Domain, rng: random.Random):
        self.rng, self.pick = rng, functools.partial(domain.choose, rng)
        topic = rng.choices(list(domain.topics), list(domain.topics.values()))[0]
        self.tense = "present" if rng.random() < domain.present else "past"
        self.places, self.things, self.beings, self.verbs, self.acts = TOPICS[topic]
        self.pronoun = rng.choice(["she", "he"])
        self.hero = self.pick(NAMES[self.pronoun])
        self.friend = self.pick([n for group in NAMES.values() for n in group if n != self.hero])
        self.place = self.pick(self.places)
        self.treasure = f"{self.pick(COLOURS)} {self.pick(self.things)}"

    def sentences(self) -> Iterator[str]:
        """The opening, four to seven events, what was found again, and the end."""
        yield self._opening()
        yield self._loss()
        events = [self._meeting, self._deed, self._clause, self._count, self._speech, self._weather]
        for event in self.rng.choices(events, k=self.rng.randint(4, 7)):
            yield event()
        yield self._end()

    def _verb(self, forms: tuple[str, str], plural: bool) -> str:
        present, past = forms
        if self.tense == "past":
            return past
        return present if plural else _third(present)

    def _be(self, plural: bool = False) -> str:
        return BE[self.tense, plural]

    def _someone(self) -> tuple[str, bool]:
        """A subject and whether it is plural."""
        being = self.pick(self.beings)
        if self.rng.random() < 0.5:
            return f"the {_plural(being)}", True
        return f"the {being}", False

    def _subject(self) -> str:
        return self.hero if self.rng.random() < 0.4 else self.pronoun.capitalize()

    def _opening(self) -> str:
        time = self.pick(TIMES)
        stay = self._verb(("come", "came"), False)
        return f"One {time} {self.hero} {stay} to the {self.place} with {self.friend}."

    def _loss(self) -> str:
        lose = self._verb(("miss", "missed"), False)
        return f"{self.pronoun.capitalize()} {lose} {POSSESSIVE[self.pronoun]} {self.treasure}."

    def _meeting(self) -> str:
        subject, plural = self._someone()
        verb = self._verb(self.pick(self.acts), plural)
        return f"{subject.capitalize()} {verb} near the {self.pick(self.places)}."

    def _deed(self) -> str:
        verb = self._verb(self.pick(self.verbs), False)
        target, _ = self._someone()
        thing = f"the {self.pick(self.things)}"
        return f"{self._subject()} {verb} {self.rng.choice([target, thing])}."

    def _clause(self) -> str:
        subject, plural = self._someone()
        other, other_plural = self._someone()
        inner = self._verb(self.pick(self.verbs), other_plural)
        mood = self.pick(MOODS)
        return f"{subject.capitalize()} that {other} {inner} {self._be(plural)} {mood}."

    def _count(self) -> str:
        number = self.pick(list(NUMBERS))
        things = self.rng.sample(self.things, number)
        *first, last = (f"{_article(thing)} {thing}" for thing in things)
        listed = f"{', '.join(first)} and {last}"
        see = self._verb(("see", "saw"), False)
        return f"{self._subject()} {see} {NUMBERS[number]} things: {listed}."

    def _speech(self) -> str:
        say = self._verb(("say", "said"), False)
        mood = self.pick(MOODS)
        speaker, listener = self.rng.sample([self.hero, self.friend], 2)
        return f'"I am {mood}, {listener}," {say} {speaker}.'

    def _weather(self) -> str:
        weather = self.pick(WEATHER[self.tense])
        return f"{weather[0].upper()}{weather[1:]} and {self.hero} {self._be()} {self.mood()}."

    def mood(self) -> str:
        """How somebody feels."""
        return self.pick(MOODS)

    def _end(self) -> str:
        find = self._verb(("find", "found"), False)
        return (
            f"At last {self.friend} {find} the {self.treasure} in the {self.place}, "
            f"and {self.hero} {self._be()} {self.mood()}."
        )


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _third(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch")) else "s")


def _plural(noun: str) -> str:
    irregular = {
        "mouse": "mice",
        "wolf": "wolves",
        "thief": "thieves",
        "child": "children",
        "deer": "deer",
    }
    if noun in irregular:
        return irregular[noun]
    return noun + ("es" if noun.endswith(("x", "ch", "s")) else "s")
