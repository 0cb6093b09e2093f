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
UNITS = frozenset(_UNITS_TEXT.split()) - {"in"}
