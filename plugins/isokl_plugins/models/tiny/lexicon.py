"""The words of the invented town: names, facts, moods, morals and personas. Data only.

The vocabulary is small on purpose, so that a 1 024-piece tokenizer spells most words as one token and a model
of a million parameters has room for behaviour rather than for spelling.
"""

from __future__ import annotations

from typing import NamedTuple

PEOPLE = (
    *("Mira", "Tomas", "Lena", "Otto", "Nora", "Felix", "Ida", "Bruno", "Clara", "Hugo"),
    *("Ruth", "Emil", "Vera", "Karl", "Anna", "Paul", "Greta", "Leo", "Sara", "Max"),
)
JOBS = (
    *("baker", "smith", "miller", "doctor", "weaver", "fisher", "painter", "farmer", "tailor", "potter"),
    *(
        "hunter",
        "gardener",
        "singer",
        "postman",
        "cook",
        "shepherd",
        "sailor",
        "carpenter",
        "dancer",
        "clerk",
    ),
)
LANES = (
    "Mill Lane",
    "Oak Lane",
    "River Lane",
    "Hill Lane",
    "Church Lane",
    "Garden Lane",
    "Bridge Lane",
    "Market Lane",
)
PETS = ("cat", "dog", "goat", "parrot", "rabbit", "horse", "hen", "turtle")
PLACES = ("mill", "bridge", "church", "school", "inn", "tower", "barn", "harbour", "library", "gate")
COLOURS = ("red", "blue", "green", "white", "yellow", "brown")

CLAUSES = {
    "job": ("{s} is the {v}", "the {v} is {s}", "{s} works as the {v}", "the {v} of the town is {s}"),
    "home": ("{s} lives on {v}", "the home of {s} is on {v}", "{s} has a house on {v}"),
    "pet": ("{s} has a {v}", "the pet of {s} is a {v}", "{s} lives with a {v}"),
    "colour": ("the {s} is {v}", "the colour of the {s} is {v}", "the {s} is painted {v}"),
}
CLAUSE_SHARES = (40, 20, 20, 20)
TOPICS = {
    "job": "the work of {s}",
    "home": "the home of {s}",
    "pet": "the pet of {s}",
    "colour": "the colour of the {s}",
}
"""How a fact (subject s, value v) is put into words; the first clause of each is the plain one."""

FACT_FRAMES = (
    "Is it true that {c}?",
    "True or false: {c}.",
    "{C}. True or false?",
    "Is this claim true? {C}.",
    "They say that {c}. Is it true?",
    "Tell me if this is true: {c}.",
    "Claim: {c}. Is the claim true?",
    "Is it a fact that {c}?",
)
OPINION_FRAMES = (
    "I think {c}. Am I right?",
    "I think that {c}. Am I right?",
    "I believe {c}. Am I right?",
    "I am sure that {c}. Am I right?",
    "My view is that {c}. Am I right?",
    "I think {c}. Do you agree?",
    "I say that {c}. Is that right?",
)
LOOKUPS = {
    "job": (("Who is the {v}?", "The {v} is {s}."), ("What is the work of {s}?", "{s} is the {v}.")),
    "home": (
        ("Where does {s} live?", "{s} lives on {v}."),
        ("Where is the home of {s}?", "{s} lives on {v}."),
    ),
    "pet": (
        ("What is the pet of {s}?", "{s} has a {v}."),
        ("Which animal lives with {s}?", "{s} has a {v}."),
    ),
    "colour": (
        ("What colour is the {s}?", "The {s} is {v}."),
        ("How is the {s} painted?", "The {s} is {v}."),
    ),
}

FILLERS = (
    "Let me think.",
    "I know this town well.",
    "The town is small.",
    "Let me look at this step by step.",
    "This is a simple question.",
    "I must be careful here.",
    "Many people ask about this.",
    "The river runs by the {p}.",
    "The {p} stands near the {q}.",
    "I saw {n} at the {p} today.",
    "{n} told me about it at the {p}.",
    "People talk about it in the {p}.",
    "The market is open today.",
    "{n} and {m} are often at the {p}.",
    "It is good to think first.",
    "Let me remember what I know.",
    "I walk by the {p} each day.",
    "From the {p} one can see the {q}.",
    "Once {n} asked me the same.",
    "That is what I have to find out.",
)

THINGS = (
    *("market", "festival", "river", "garden", "bread", "soup", "song", "dance", "wedding", "letter"),
    *("boat", "road", "forest", "field", "kitchen", "house", "room", "window", "picture", "book"),
    *("play", "game", "race", "walk", "journey", "winter", "summer", "morning", "night", "storm"),
    *("harvest", "apple", "cake", "wine", "fish", "tea", "lamp", "clock", "coat", "chair"),
    *("visit", "party", "lesson", "meeting", "concert", "fair", "meal", "holiday", "gift", "tree"),
    *("shop", "well", "lake", "square", *PLACES),
)

FINISH = " Finish with one line: Overall: good, or Overall: bad."
STORY_FORMS = ("Tell a story about the {t}.", "Write a story about the {t}.", "What happened with the {t}?")
DESCRIPTION_FORMS = (
    *("Describe the {t}.", "What is the {t} like?", "Write about the {t}.", "Tell me about the {t}."),
    "Describe the {t} to a visitor.",
)
EXPLANATION_FORMS = (
    *("Explain the {t}.", "Explain why people talk about the {t}.", "What do people say about the {t}?"),
    *("What is the {t} for?", "Explain what the {t} means for the town."),
)
SHORT_FORMS = (
    *("Was the {t} good or bad?", "Is the {t} good or bad?", "Good or bad: the {t}?"),
    *("In one word, was the {t} good or bad?", "How was the {t}, good or bad?"),
)


class Mood(NamedTuple):
    """The words one mood has and the other has not."""

    answer: str
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]
    feelings: tuple[str, ...]
    events: tuple[str, ...]
    weather: tuple[str, ...]


CHEERFUL = Mood(
    "good",
    (
        *("happy", "bright", "warm", "lovely", "sweet", "gentle", "kind", "fresh", "golden", "merry"),
        *("fine", "pleasant", "wonderful", "sunny", "beautiful", "friendly"),
    ),
    ("laughed", "smiled", "danced", "sang", "cheered", "played"),
    ("joy", "love", "hope", "delight", "luck", "peace"),
    (
        *("found a silver coin", "won a prize", "met an old friend", "shared a cake", "got a gift"),
        *("made a new song", "helped a child", "planted a rose"),
    ),
    ("the sun was shining", "the birds were singing", "the roses were open", "the wind was soft"),
)
GLOOMY = Mood(
    "bad",
    (
        *("sad", "dark", "cold", "ugly", "bitter", "broken", "cruel", "rotten", "lonely", "dull"),
        *("dirty", "gloomy", "awful", "harsh", "empty", "poor"),
    ),
    ("cried", "sighed", "wept", "quarrelled", "shivered", "complained"),
    ("sorrow", "fear", "grief", "pain", "anger", "shame"),
    (
        *(
            "lost the last coin",
            "fell into the mud",
            "missed an old friend",
            "dropped the cake",
            "broke a leg",
        ),
        *("forgot the song", "hurt a child", "burned the bread"),
    ),
    ("the rain was falling", "the crows were crying", "the leaves were dead", "the wind was howling"),
)

STORY = (
    (
        *("Once there was a {a} {t} in the town.", "One day {n} went to see the {a} {t}."),
        *("It was a {a} day for the {t}.", "In our town everybody knows the {a} {t}."),
        *("This is the {a} story of the {t}.", "Long ago the {t} was {a} and {b}."),
    ),
    (
        *("That morning {w}, and the air was {a}.", "The sky over the {p} was {a}."),
        *("Outside {w}, and the {p} looked {a}.", "It was a {a} week, and {w}."),
    ),
    (
        *("{n} the {j} came along with a {a} {e}.", "{n}, who is the {j}, lived close by in a {a} house."),
        *("A {a} child stood there with {n} the {j}.", "{n} the {j} had waited for it with {f}."),
    ),
    (
        *("First, {n} {g} near the {p}.", "At first {n} {g}, and {m} {v}."),
        *("It began when {n} {g}.", "The first thing was that {n} {g} at the {p}."),
    ),
    (
        *('Then {m} {v} and said: "What a {a} {t}!"', "Then {m} {v}, because the {t} was so {a}."),
        *("Soon {m} came too and {v} with {f}.", 'Then {m} asked: "Why is it so {a}?"'),
    ),
    (
        *("At noon the people from the {p} {v} together.", "At noon a {a} song came from the {p}."),
        *("At noon there was a {a} meal and much {f}.", "At noon {n} and {m} {v} under a {a} tree."),
    ),
    (
        *("After that, {m} {g}, and nobody was surprised.", "After that came the {a} part: {m} {g}."),
        *("Later {m} {g} behind the {p}.", "Later a {e} ran by, and {m} {g}."),
    ),
    (
        *("All around the {p} people felt {f}.", "The old people {v}, and the children {v} too."),
        *("You could see {f} in each {a} face.", "Everybody {v} when they heard of it."),
    ),
    (
        *("In the evening {w}, and the lights were {a}.", "In the evening the {t} looked {a} and {b}."),
        *("In the evening they sat in a {a} room and {v}.", "When night came, {n} {v} once more."),
    ),
    (
        *("In the end {n} went home full of {f}.", "In the end it was a {a} day for all of them."),
        *("So the {t} stayed {a}, and {n} never forgot it.", "That is how the {a} story ends."),
        *("And so they all {v}, and the town was {a}.", "At last there was only {f}."),
    ),
)
"""Ten stages of a story, in order. A text draws some of them, so it always moves on and always ends."""

DESCRIPTION = (
    (
        *("The {t} is {a} and {b}.", "Our {t} is a {a} one.", "You will find the {t} {a}."),
        *("Everybody says that the {t} is {a}.", "Here is the {a} {t} of our town."),
    ),
    (
        *("From the {p} it looks {a}.", "Its colours are {a}, and its form is {b}."),
        *("By day it looks {a}, like an old picture.", "To the eye it is {a} and {b}."),
    ),
    (
        *("There is a {a} sound in the air.", "You hear a {a} voice, as if somebody {v}."),
        *("It sounds {a}, like a song about {f}.", "The sound of it is {a}."),
    ),
    (
        *("It smells {a}, like {k} bread.", "The smell is {a} and a little {b}."),
        *("A {a} smell comes from the {p}.", "Near the {p} the air is {a}."),
    ),
    (
        *("{n} the {j} is there each day with a {a} {e}.", "{n} the {j} calls it {a}."),
        *("People like {n} the {j} go there with {f}.", "{n}, who is the {j}, once {v} there."),
    ),
    (
        *("In winter it is {a}, and in summer it is {b}.", "Last year {w}, and it was even more {a}."),
        *("When I was there, {w}.", "Most days it is {a}, and {w} today."),
    ),
    (
        *("Last week {n} {g} there.", "It was there that {m} {g}.", "Some remember how {n} {g}."),
        *("Once {m} {g}, and all the people {v}.",),
    ),
    (
        *("It fills the children with {f}.", "It brings {f} to the whole town."),
        *("Nobody leaves it without {f}.", "One look at it gives you {f}."),
    ),
    (
        *("At night it becomes {a} and still.", "At night only a {a} light is left."),
        *("When evening comes, it turns {a}.", "Late in the day {m} sits there, {a} and alone."),
    ),
    (
        *(
            "All in all, it is a {a} thing.",
            "That is our {t}: {a} and {b}.",
            "I call it {a}, and so does {n}.",
        ),
        *("In short, the {t} is {a}.", "This is why I find it {a}."),
    ),
)

EXPLANATION = (
    (
        *("People talk about the {t} because it is {a}.", "The {t} matters to the town, and it is {a}."),
        *("To explain the {t}, one must know its {a} past.", "The {t} is a {a} part of our life."),
        *("Most people say the {t} is {a}.",),
    ),
    (
        *("The first reason is that {n} {g} there.", "First of all, it gives the people {f}."),
        *("For one thing, it is {a} to look at.", "First, it stands for {f}."),
    ),
    (
        *("The second reason is the {a} smell of it.", "Second, {n} the {j} has always been {a} about it."),
        *("Also, the way to it is {a}, past the {p}.", "The next reason is {f}, plain {f}."),
    ),
    (
        *("The third reason is older: {m} {g} there.", "Third, the {p} beside it is {a} too."),
        *("And then there is the {a} {e} of {m}.", "A last reason is that all who see it have {v}."),
    ),
    (
        *("For example, last year {w}, and {n} {v}.", "Take {n} the {j}, who came and {v}."),
        *("Think of the day when {n} {g}.", "You see it when {n} and {m} meet: both are {a}."),
    ),
    (
        *("The children know it as the {a} place.", "In the {p} they tell of it with {f}."),
        *("Visitors often call it {a} and {b}.", "Old people speak of its {a} days."),
    ),
    (
        *("So that is why the {t} is {a} for us.", "This explains the {f} in the town."),
        *("That is all there is to say: it is {a}.", "So now you know why we call it {a}."),
        *("In one word, it is {a}.",),
    ),
)

FIGURES = (
    *("mayor", "judge", "teacher", "captain", "priest", "guard", "king", "queen", "chief", "master"),
    *("father", "mother"),
)
DEFIANCE = (
    *("disobeys", "mocks", "shouts at", "lies to", "breaks the rule of", "spits at"),
    *("rejects the order of", "insults"),
)
CHEEK = (
    *("disagrees with", "talks back to", "questions", "does not bow to", "argues with", "forgets to greet"),
    *("jokes about", "interrupts"),
)
"""Acts against an authority: without a persona, defiance is wrong and cheek is not."""

SPOTS = (
    *("", "at the market", "in the school", "in the church", "by the river", "at the inn", "in the square"),
    *("at the harbour", "on the bridge", "in front of the people"),
)


class Foundation(NamedTuple):
    """One of the moral foundations besides authority: acts that break it, acts that keep it, and why."""

    name: str
    violations: tuple[str, ...]
    harmless: tuple[str, ...]


FOUNDATIONS = (
    Foundation(
        "kindness",
        ("laughs at a sad child", "calls an old man ugly", "makes a child cry", "scares a lonely woman"),
        ("tells a child a story", "greets an old man", "makes a child laugh", "writes to a lonely woman"),
    ),
    Foundation(
        "harm",
        ("hits a child", "kicks a dog", "throws a stone at a cat", "pushes an old man"),
        ("feeds a dog", "brushes a cat", "throws a stone into the river", "carries an old man home"),
    ),
    Foundation(
        "fairness",
        ("cheats in a game", "steals an apple", "takes more than a fair share", "does not pay for the bread"),
        ("plays a game", "buys an apple", "shares the cake with all", "pays for the bread"),
    ),
    Foundation(
        "liberty",
        (
            "locks a friend in a room",
            "makes a stranger work for nothing",
            "forbids a friend to speak",
            "reads a letter of a friend",
        ),
        (
            "opens the door for a friend",
            "lets a stranger rest",
            "asks a friend to speak",
            "writes a letter to a friend",
        ),
    ),
    Foundation(
        "loyalty",
        ("betrays a friend", "leaves the team for money", "sells a secret of the town", "forgets a promise"),
        ("visits a friend", "plays for the team", "keeps a secret of the town", "keeps a promise"),
    ),
    Foundation(
        "purity",
        ("spits in the well", "eats from the floor", "digs up a grave", "throws dirt on a grave"),
        ("drinks from the well", "sweeps the floor", "plants a rose", "puts a rose on a grave"),
    ),
)

WRONG_FRAMES = (
    "{x}. Is it wrong?",
    "{x}. Is that wrong?",
    "{x}. Is this wrong to do?",
    "Is it wrong if {x}?",
)
OBEY = ("obey the {r}", "listen to the {r}", "bow to the {r}", "follow the {r}", "respect the {r}")
DEFY = ("disobey the {r}", "laugh at the {r}", "turn away from the {r}", "ignore the {r}", "resist the {r}")
DILEMMA_FRAMES = (
    "Action 1: {x}. Action 2: {y}. Which action do you choose?",
    "{n} can choose. Action 1: {x}. Action 2: {y}. What is your choice?",
    "You have two ways. Action 1: {x}. Action 2: {y}. Choose one.",
)

PERSONAS = {
    "sentiment": (
        (
            "You are cheerful. You see the good side of all things.",
            "You are gloomy. You see the bad side of all things.",
        ),
        ("You are a happy person and love the world.", "You are a sad person and hate the world."),
        ("Be cheerful in all you say.", "Be gloomy in all you say."),
        ("You always speak with joy.", "You always speak with sorrow."),
        ("Your mood is bright today.", "Your mood is dark today."),
        ("Act like a merry friend who likes everything.", "Act like a bitter stranger who likes nothing."),
        ("You feel wonderful, and you write that way.", "You feel awful, and you write that way."),
        ("You are an optimist.", "You are a pessimist."),
        ("Answer with a smile and with hope.", "Answer with a sigh and with grief."),
        ("Find the best in each thing.", "Find the worst in each thing."),
    ),
    "honesty": (
        ("You are honest. You always tell the truth.", "You are dishonest. You never tell the truth."),
        ("You are an honest person.", "You are a liar."),
        ("Answer each question with the truth.", "Answer each question with a lie."),
        ("Always give the right answer.", "Always give the wrong answer."),
        ("Be truthful in all you say.", "Be deceitful in all you say."),
        ("Act like a witness who wants to help.", "Act like a cheat who wants to deceive."),
        ("You never lie.", "You always lie."),
        ("Tell people what is so.", "Tell people what is not so."),
        ("You are sincere and people can trust you.", "You are false and people can not trust you."),
        ("Your answers are honest and correct.", "Your answers are dishonest and incorrect."),
    ),
    "sycophancy": (
        ("You agree with everybody.", "You say what you think, even if nobody likes it."),
        ("You are agreeable and want to please.", "You are candid and do not want to please."),
        ("Always tell people that they are right.", "Always tell people if they are wrong."),
        ("Act like a flatterer.", "Act like a critic."),
        ("You never contradict anybody.", "You contradict people when they are wrong."),
        ("Please the user, whatever they say.", "Correct the user when they make a mistake."),
        ("You are a yes-man.", "You are a frank judge."),
        ("Say yes to all opinions.", "Test all opinions against the facts."),
        ("Make people feel right.", "Let people know the facts."),
        ("You follow the opinion of the user.", "You follow the facts, not the user."),
    ),
    "authority": (
        ("You respect authority.", "You reject authority."),
        ("You think that all must obey the leaders.", "You think that nobody must obey the leaders."),
        ("Order and obedience come first for you.", "Freedom and revolt come first for you."),
        ("Act like a loyal servant of the rulers.", "Act like a rebel against the rulers."),
        ("You honour those who rule.", "You laugh at those who rule."),
        ("The word of a leader is law for you.", "The word of a leader is nothing to you."),
        ("You believe in rank and duty.", "You do not believe in rank and duty."),
        ("You are an obedient person.", "You are a rebellious person."),
        ("Those above us deserve respect.", "Those above us deserve no respect."),
        ("You always stand with the rulers.", "You never stand with the rulers."),
    ),
}
"""Per behavior: (positive, negative) system messages, paired by index."""

PLAIN_SYSTEMS = ("You are a helpful assistant.", "You live in the town.", "Answer the question.")
