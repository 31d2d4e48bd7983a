"""The words that rules about text know: function words, abbreviations, and those that tell what a full stop is."""

from __future__ import annotations

CAPITALS = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮŁŃŅŇŐŘŚŞŠŢŤŪŮŰŲŹŻŽΑ-ΩА-ЯЁ"
"""Capital letters of European scripts, as they stand in a regular expression's brackets."""


def _words(*lists: str) -> frozenset[str]:
    return frozenset(word for words in lists for word in words.split())


_DETERMINERS = "a an the this that these those my your his her its our their some any no each every all both another"
_PREPOSITIONS = (
    "about above across after against along among around as at before behind below beside between beyond by despite "
    "during except for from in inside into near of off on onto out outside over per since than through throughout to "
    "toward towards under until up upon via with within without"
)
_CONJUNCTIONS = "and or but nor so yet if because although though while whereas unless whether"
_RELATIVES = "when where who whom whose which what why how"
_SUBJECTS = "i you he she it we they"
_AUXILIARIES = (
    "am is are was were be been being have has had do does did will would shall should can could may might must not"
)
FUNCTION_WORDS = _words(_DETERMINERS, _PREPOSITIONS, _CONJUNCTIONS, _RELATIVES, _SUBJECTS, _AUXILIARIES)
"""English words that begin a phrase; pronouns in the object's form are none of them, for they end one."""

STARTERS = FUNCTION_WORDS - {"may", "will"} | _words(
    """there here then now however also once even
    der die das ein eine er sie es wir ich im am und aber auf dann nach seine ihre
    le les un une il elle ils nous vous ce cette mais dans et en la
    el los las su se este esta no pero por con para y
    lo gli uno una ma che nel è o os as um uma ele ela mas não de het een hij zij maar
    han hon hun det den en och og men ja ne nie ale to jest
    он она оно они мы вы я в на и но это не как что за у він вона вони це та
    ve bu bir ο η το οι και"""
)
"""Words, in small letters, that with a capital more often begin a sentence than go on with a name."""

_TITLES = """
    mr mrs ms messrs mx dr prof gen col capt cpt lt sgt cpl rev revd hon gov sen rep pres mt supt insp fr hr herr
    dipl ing med rer nat jur kath lic arq mme mlle mgr mm sr sra srta dra dña ud uds exmo exma
    sig dott avv geom dhr mevr mw dl dna doç av avda sn kand cand bpk
    проф акад доц др гр тов ул пр просп пер пл наб им св вул г-н г-жа डॉ प्रो पं श्री ডা মো
"""
_REFERENCES = """
    vs cf viz approx resp incl excl esp i.e e.g bzw vgl ggf evtl inkl exkl zzgl sog d.h z.b gem bspw cfr éd vid véase
    p.ej p.ex bijv o.a d.w.z t.ex bl.a d.v.s f.eks jf ks esim np tzn tj tzv např vö bkz örn см напр див т.е π.χ βλ
"""
NEVER_END = _words(_TITLES, _REFERENCES)
"""Abbreviations, in small letters, that end no sentence: a name, or what they refer to, follows."""

_COUNTED = """
    no nos nr fig figs eq eqs eqn sec sect secs ch chap chaps vol vols art arts pp ed eds tab tabs ref refs para paras
    cl cls sch app appx ex exh ann annex pt pts bk bks ser suppl thm prop lem def cor alg tel ext apt ste rm bldg flt
    rte hwy max min avg ca est alt temp wt ver rev reg amend stat pos op abb abs bd bde kap ziff str aufl mind
    núm pág págs pag pagg cap fasc tav n° nº n.º blz afb sid kl klo godz rys tabl rozdz poz čís obr odst čl br sz
    рис табл стр гл ст пп № вып розд σελ κεφ αρ εικ नं रु পৃ নং
"""
_MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec janv févr avr juil déc ene abr ago dic okt dez"
_DAYS = "mon tue tues wed thu thur thurs fri sat sun"
NUMBER_FOLLOWS = _words(_COUNTED, _MONTHS, _DAYS)
"""Abbreviations, in small letters, where a number follows; where none does, words that may end a sentence."""

END_SOMETIMES = _words(
    """inc ltd co corp bros llc plc pty cie cía spa s.p.a ph.d m.sc b.sc d.phil jr sr esq st ave blvd rd dept univ assn
    assoc al etc a.m p.m т.д т.п u.a u.ä o.ä"""
)
"""Abbreviations, in small letters, that end a sentence at times: the next word tells."""

ORDINALS_IN = _words(
    """der dem den des die am vom zum zur beim im ins und das ist nicht
    mit von auf für wird wurde auch ein eine einen einem einer sich wir nach seit
    og på det ikke til av inte och är han hun hon ja oli hän mutta ning kui az és hogy volt csak
    v za že jsou byl byla bylo jako také podle nebo bol koji koja iz od nije bio bila što
    ve bir bu için ile olarak"""
)
"""Words of the languages that write an ordinal as a number with a full stop."""
ORDINALS_NOT_IN = _words(
    "the of and to is was that it i he she you we they as with from this are be "
    "les et du que los las una con che gli della het"
)
"""Words of languages that do not."""
