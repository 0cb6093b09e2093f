"""Names of units that may follow a value, in lower case and singular."""

_UNITS_TEXT = """
    mm cm dm km mi ft in inch inche yd yard meter metre centimeter centimetre millimeter kilometer
    kilometre mile foot feet sq square squared cube cubed cubic unit ha hectare acre ml cl dl liter
    litre gallon gal quart pint cup mg kg gram kilogram ton tonne lb pound oz ounce sec second min
    minute hr hour day week month year yr ms kmh kmph mph km/h m/s hz khz mhz ghz degree deg ° radian
    rad celsius fahrenheit kelvin cent dollar euro usd eur gbp rupee rs yuan $ € £ penny pennie nickel
    dime quarter newton joule watt volt amp ampere ohm pascal pa kpa mol mole cal kcal calorie joule kj
    kw kwh people person student children child boy girl man men woman women apple book ticket marble
    coin card point page way time item ball pie seat car egg toy piece box boxe game vote digit side
    number combination in
"""
_SYNONYMS_TEXT = """
    °=degree deg=degree centimeter=cm centimetre=cm millimeter=mm kilometer=km kilometre=km meter=m metre=m
    inch=in inche=in foot=ft feet=ft yard=yd mile=mi $=dollar usd=dollar €=euro eur=euro £=pound gbp=pound
    hr=hour h=hour min=minute sec=second s=second kilogram=kg gram=g liter=l litre=l yr=year sq=^2 square=^2
    squared=^2 cubic=^3 cube=^3 cubed=^3 kmh=km/h kmph=km/h mph=mi/h
"""
_SYNONYMS = dict(pair.split("=") for pair in _SYNONYMS_TEXT.split())
UNITS = frozenset(_UNITS_TEXT.split()) - {"in"}


def canonical_unit(words: str) -> str:
    """One spelling of a unit: ``square inches``, ``in^2`` and ``inches^2`` are the same."""
    parts = [_singular(word) for word in words.lower().replace("^", " ^").replace(".", " ").split()]
    powers = [part for part in parts if part.startswith("^")]
    return "".join([part for part in parts if part not in powers] + powers)


def _singular(word: str) -> str:
    short = word.removesuffix("s") if len(word) > 3 else word
    return _SYNONYMS.get(word) or _SYNONYMS.get(short, short)
