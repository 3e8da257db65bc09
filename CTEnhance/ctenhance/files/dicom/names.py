"""Names of quantities and of computed images, as people write them into headers, in eleven languages.

English, German, French, Spanish, Italian, Dutch and Portuguese, in capitals without accents; products of
Siemens, GE, Philips, Canon and of workstations among them. What Japanese, Chinese, Korean and Russian headers
say is put into English first.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

Names = tuple[tuple[str, str], ...]

_IODINE = r"(IODINE?|IOD[OE]?|JOD|YODO|IODIO|JODIUM|JOOD)"
_MATERIAL = (
    r"(IODINE|WATER|CALCIUM|CAL|HAP|HYDROXYAPATITE?|FAT|ADIPOSE|GADOLINIUM|GOLD|IRON|URIC ACID|MATERIAL"
    r"|XENON|BLOOD|CHOLESTEROL|LIPID|BISMUTH|TANTALUM)"
)
_ANY_MATERIAL = (
    rf"({_MATERIAL}|{_IODINE}|KALZIUM|CALCI(O|UM)|WASSER|WATER|EAU|AGUA|ACQUA|FETT|GRAISSE|GRASA|GRASSO"
    r"|GORDURA|VET|HARNSA?E?URE|ACID[EO] URI(QUE|CO)|URINEZUUR|EISEN|FER|HIERRO|FERRO|IJZER)"
)
_OF = r"( (D|DE|DI|DEL|DELLO|DELLA|DU|DA|DO|VAN|VON))?( L)?"
_JOINED = re.compile(r"(?<=[a-z]{2})(?=[A-Z][A-Za-z])")  # 'IodineMap'
_RAISED = str.maketrans("¹²³⁻", "123-")
# Of other scripts: how often they are met, the commonest names only.
_IN_OTHER_SCRIPTS: Names = tuple(
    (re.sub(r"(?<=[^ -~]) (?=[^ -~])", r"\\s*", names), f" {english} ")
    for names, english in (
        (
            "電子密度|电子密度|전자 ?밀도|ЭЛЕКТРОНН\\w* ПЛОТНОСТ\\w*|ΗΛΕΚΤΡΟΝΙΑΚΗΣ? ΠΥΚΝΟΤΗΤΑΣ?",
            "ELECTRON DENSITY",
        ),
        ("(?<![^\\W_])Ρ(?=[EΕ]?(?![^\\W_]))", "RHO"),
        (
            "[実有实實]効?效?原子番号|有效原子序[数數]|유효 원자 ?번호|ЭФФЕКТИВН\\w* АТОМН\\w* НОМЕР\\w*",
            "EFFECTIVE ATOMIC NUMBER",
        ),
        ("阻止能比|阻止本领比|저지능 ?비", "STOPPING POWER RATIO"),
        (
            "(ヨード|ヨウ素|沃度)(密度|濃度|マップ|画像)|碘(密度|浓度|濃度|图|圖|基图)"
            "|(요오드|아이오딘) ?(밀도|농도|맵|영상)"
            "|(ПЛОТНОСТ\\w*|КОНЦЕНТРАЦ\\w*|КАРТ\\w*) ЙОДА|ЙОДН\\w* КАРТ\\w*",
            "IODINE DENSITY",
        ),
        ("(脳|局所|腦|脑)?血流量|뇌? ?혈류량|(МОЗГОВ\\w* )?КРОВОТОК\\w*", "BLOOD FLOW"),
        ("(脳|局所|腦|脑)?血[液容]量|뇌? ?혈액량|ОБЪЕМ\\w* КРОВИ", "BLOOD VOLUME"),
        ("平均通過時間|平均通过时间|평균 ?통과 ?시간|СРЕДН\\w* ВРЕМЯ ТРАНЗИТА", "MTT"),
        ("灌流|灌注|관류|ПЕРФУЗИ\\w*", "PERFUSION"),
        ("仮想(単純|非造影)|虚拟平扫|虛擬平掃|가상 ?비조영|ВИРТУАЛЬН\\w* (НАТИВН|БЕСКОНТРАСТН)\\w*", "VNC"),
        (
            "仮想単色|単色X線|虚拟单能|单能量|虛擬單能|가상 ?단색|МОНОХРОМАТ\\w*|МОНОЭНЕРГЕТ\\w*",
            "MONOENERGETIC",
        ),
        ("脂肪(分数|含量|率)|지방 ?분율", "FAT FRACTION"),
        ("マップ|伪彩图?|偽彩圖?|지도|맵|КАРТ[АЫ]|ΧΑΡΤΗΣ?|מפת|خريطة", "MAP"),
        ("ヨード|ヨウ素|碘|요오드|아이오딘|ЙОД\\w*|ΙΩΔΙΟΥ?|יוד|اليود", "IODINE"),
        ("(?<=\\()(水|ВОДА)(?=\\))|ВОДЫ", "WATER"),
        ("钙|鈣|カルシウム|КАЛЬЦИ\\w*", "CALCIUM"),
        ("反転|翻[转轉]|镜像|鏡像|回転|旋[转轉]|ПОВЕРНУТ\\w*|ЗЕРКАЛЬН\\w*|ОТРАЖЕН\\w*", "FLIPPED"),
    )
)
_DENSITY = "density of a material"
#: A scan for which it is looked for may be named after it, too.
SHOWN_ALONE = "a material that is shown alone"
_ELECTRON = r"E?LE[CKT]+RON"
_DENSE = r"(DENS|DICHT|HUSTOT|TATHET|TAETHET|TTHED|TIHEY|SURUSEG|YOGUNLU|GESTOSC)"
_Z, _RHO, _POWER = "effective atomic number", "electron density", "stopping power ratio"
_MASS, _BASIS = "mass density", "one of the effects that attenuate (photoelectric, scatter)"
_MAP = "a map"
_FLOW, _VOLUME, _TIME, _PERMEABILITY = "blood flow", "blood volume", "time", "permeability"
_PERFUSION, _MOTION, _SLOPES = "perfusion", "motion or ventilation", "slopes"
_ANOTHER = "another quantity"
#: Names that a CT of which such maps are computed has, too; but not one that was computed itself.
NOTED_IF_DERIVED = (
    _FLOW, _VOLUME, _TIME, _PERMEABILITY, _PERFUSION, _MOTION, _SLOPES, _ANOTHER, _MAP,
)  # fmt: skip
#: An image of one tube, or of both mixed, as those are named: 'M_0.4', 'Sn140 kV'.
OF_TUBES = re.compile(r"\bM 0 \d|\d ?KV\b|\bMIX")
#: Names that many a CT has not, and that air contradicts: then a note says so. And those with air as in HU.
NOTED, WITH_AIR = (_DENSITY, _BASIS), (_RHO, _Z, _POWER, _MASS)
# Of some vendors these have -1000 in air, too: air does not show that they are HU.
LIKE_HU: Names = (
    (
        r"Z ?EFF(ECTIVE)?(?! DOSE)|EFF(ECTIVE)? (Z|ATOMIC NUM(BER)?)|RHO ?Z|EFF(EKTIVE)? ?(Z|ORDNUNGSZAHL)"
        r"|KERNLADUNGSZAHL|NUM[EO]RO ATOM(IQUE|ICO) (EFFECTIF|EFE[CT]+IVO|EFFICACE|EFETIVO)|Z EFE[CT]+IVO"
        r"|^((DE|DECT) )?Z( (MAPS?|IMAGES?))?( \d+)*$"
        r"|EFFECTIEF ATOOM\w*|ATOMIC NUMBER",
        _Z,
    ),
    (
        rf"{_ELECTRON}\w* ?{_DENSE}\w*|{_DENSE}\w* (\w+ )?{_ELECTRON}\w*|RHO ?E(L|W)?|EDW|RHO"
        r"|E(L|LEC)? ?DENS(ITY|ITE|ITA)?|E DICHTE|ED MAPS?|(REL|RELATIVE) E ?D|ED (REL|RELATIVE)"
        r"|^((DE|DECT|DUAL ENERGY|SPECTRAL|GSI) )?RED( (MAPS?|IMAGES?))?( X)?( \d+)*$"
        r"|RED MAPS?|(DE|DECT|SPECTRAL|GSI) RED|(?<=\()RED(?=\))|RED (X ?)?1000",
        _RHO,
    ),
    (
        r"(DIRECT|DE|DECT|DUAL ENERGY|SPECTRAL) ?(SPR|RSP)|STOPPING POWER RATIOS?|(SPR|RSP) (MAPS?|IMAGES?)"
        r"|BREMSVERM\w*|(?<=\()(SPR|RSP)(?=\))",
        _POWER,
    ),
)
OF_MATERIALS: Names = (
    (rf"{_MATERIAL} (DENSITY|CONCENTRATION|CONTENT|MAPS?|FRACTION|NO WATER|IMAGES?|UPTAKE)", _DENSITY),
    (rf"(GSI )?M+D {_MATERIAL}|{_ANY_MATERIAL} ?\( ?{_ANY_MATERIAL}", _DENSITY),
    (
        r"(Q ?CT )?(BMD|BONE MINERAL( DENSITY)?|KNOCHENDICHTE) (MG|MAPS?|QCT)|QCT BMD",
        "bone density",
    ),
    (
        r"FAT FRACTION|FETT(ANTEIL|FRAKTION|GEHALT)"
        r"|(FRACTION|FRACCION|FRAZIONE) (DE |DI )?(GRAISSE|GRASA|GRASSO)|VETFRACTIE|PDFF|FRACAO DE GORDURA",
        "fraction of fat",
    ),
)
OF_PERFUSION: Names = (
    (r"R?CBF|(REGIONAL )?(CEREBRAL )?BLOOD FLOW", _FLOW),
    (r"R?CBV|\w*PBV|(PERFUSED |CEREBRAL )?BLOOD VOLUME", _VOLUME),
    (r"R?MTT|MEAN TRANSIT( TIME)?|TTP|T ?MAX|TTD|TTS|TIME TO (PEAK|DRAIN|START|MAX(IMUM)?)", _TIME),
    (r"FLOW EXTRACTION( PRODUCT)?|PERMEABILITY|KTRANS|PATLAK|PARAMETRIC MAP", _PERMEABILITY),
)
QUANTITIES: Names = (*LIKE_HU, *OF_MATERIALS, *OF_PERFUSION)
# An image at an energy is HU, whichever material is to be seen in it.
AT_AN_ENERGY = re.compile(r"\b(\d* ?KEV|VMI|VMC|MONO ?PLUS|MONO|MONO ?E\w*|MONOCHROM\w*|MONOENERG\w*)\b")
_DENSITY_WORDS = r"DICHTE|DENSITE|DENSIDADE?|DENSITA|DICHTHEID|KON[ZC]\w*|CON[CZ]\w*"
# Of which many a CT is named, too: they count where there is no air at -1000 HU, as there is in every CT.
WITHOUT_AIR: Names = (
    *OF_PERFUSION,
    (
        r"((HEPATIC )?ARTERIAL|PORTAL|TOTAL) ([A-Z]+ )?(FLOW|PERFUSION|FRACTION)"
        r"|\w*(PERFUS(ION\w*|IE|AO)|DURCHBLUTUNG|DOORBLOEDING)",
        "a perfusion",
    ),
    (
        r"BLUT ?(VOLUMEN|FLUSS)|BLOED(STROOM|VOLUME)|(VOLUMEN?|DEBIT|FLUJO|FLUSSO|FLUXO)"
        r" (CEREBRAL )?(SANGUI\w+|EMATICO)|\w*TRAN?SI(T|TO|T ?ZEIT|TTIJD)"
        r"|(ZEIT|TEMPS|TIEMPO|TEMPO|TIJD) (BIS|AU|JUSQU|HASTA|AL|ATE|TOT)\b.*",
        _PERFUSION,
    ),
    (r"K ?EDGE\w*|K KANTE\w*|K RAND\w*|BORD K|(BORDE|BORDO|BORDA) K", _DENSITY),
    (
        rf"{_ANY_MATERIAL} ?(OVERLAY|KART(EN?|AN?|TA|ET)|KORT(ET)?|BILD(ER)?|KAART|{_DENSITY_WORDS}"
        r"|(NO|OHNE|SANS|SIN|SENZA|SEM|ZONDER) (WATER|WASSER|EAU|AGUA|ACQUA))\w*",
        _DENSITY,
    ),
    (rf"(CARTE|CARTO\w*|MAPA|MAPPA|IMAGE|IMAGEN|IMAGEM|{_DENSITY_WORDS}){_OF} {_ANY_MATERIAL}", _DENSITY),
    (
        rf"^({_IODINE}|CALCIUM|KALZIUM|CALCIO|URIC ACID|HARNSA?E?URE|ACID[EO] URI(QUE|CO)|URINEZUUR)( \d+)*$"
        r"|^(DE )?URIC ACID(?! (STONES? )?PROTOCOL)"
        r"|(DE|DECT|SPECTRAL|GSI) (IODINE|CALCIUM|WATER|HAP|FAT)( \d+)*$"
        r"|VNC (UND|AND|ET|Y|E|EN) IOD\w*|I ?MAP"
        # what was injected, as in 'with iodine' and 'iodine contrast 80 ml'
        r"|(?<!WITH )(?<!MIT )(?<!AVEC )(?<!CON )IODINE(PLUS)?"
        r"(?! (CONTRAST|AGENT|FLUSH|[CK]M|INJ\w*|IV|\d+) ?)",
        _DENSITY,
    ),
    (r"^(PS|BV|BF)( \d+)*$", _PERFUSION),
    (r"SPECTRAL (HU )?(CURVE )?SLOPE", _SLOPES),
    (r"DELAY|(IRF )?T0|(BOLUS )?ARRIVAL TIMES?|TIME OF ARRIVAL|WASH ?(IN|OUT) (RATE|MAPS?|INDEX)", "time"),
    (
        r"TMIP|PENUMBRA|MISMATCH|(INFARCT|ISCH(A?E)?MIC) CORE|HYPOPERFUSION\w*|[HAP]PI|PERFUSION INDEX|[AP]LP"
        r"|HAF|MBF|MBV|AEF|AUC|TPR|TRANSMURAL \w+|MAX(IMUM)? SLOPE|UPSLOPE|PEAK ENHANCEMENT|VASCULARITY|K ?2"
        r"|ECV|EXTRACELLULAR VOLUME",
        _PERFUSION,
    ),
    (
        r"JACOBI\w*|DET ?J\w*|CTVI|\w*VENTIL\w*|S?VENT MAPS?|SVENT|LUNG ?VENT|\w*BELUE?FTUNG\w*|S?GVC|SVOL"
        r"|(GAS )?VOLUME CHANGE|(REGIONAL|PRINCIPAL|LOCAL|AREA|VOLUME) STRAIN|STRAIN (MAPS?|FIELD)|^STRAIN$"
        r"|AIR ?TRAPP\w*|F?SAD|PRM|DPM|LAA( \d+)?|ATRAPAMIENTO\w*|(TRAP|PIEGE)\w* (D )?A(IR|ERIEN)|EMPHYSEMA"
        r"|(DENSITY|EMPHYSEMA) MASK|CALIPER|(DISPLACEMENT|DEFORMATION) (FIELD|MAGNITUDE|VECTORS?)|DVF"
        r"|REGISTRATION DEFORMATION|MOTION FIELD|VDP|HU CHANGE",
        _MOTION,
    ),
    (
        r"LIKELIHOODS?|SALIENCY|CONFIDENCE|GRAD ?CAM|ACTIVATIONS?|TEXTURE \w+|WAHRSCHEINLICH\w*"
        r"|PROBABILIT\w*|VEROSIMILI\w*|VRAISEMBLANCE|(AI|CNN|DL) (OUTPUT|RESULT|FINDING)S?|UNCERTAINTY"
        r"|UNSICHERHEIT\w*|INCERTITUDE\w*|INCERTIDUMBRE|INCERTEZZA|SUSPICION|(STD|SD) MAPS?|[CS]NR"
        r"|STANDARD DEVIATION|STANDARDABWEICHUNG|VARIANCE|ENTROPY|GLCM|RADIOMIC\w*|SEGMENT(ED|IERUNG)"
        r"|SEGMENTA(CION|ZIONE|CAO)|MASKE|MASQUE|MASCARA|MASCHERA",
        "scores or labels",
    ),
    (
        r"DOSE (DISTRIBUTION|MAPS?|GRID|SUM|C?GY)|RT ?DOSE|DOSISVERTEILUNG|SUV\w*|MU ?MAPS?|UMAPS?"
        r"|ATTENUATION (COEFFICIENTS?|MAPS?)|(CT )?FFR( ?CT)?|T SCORE|E MODUL\w*|YOUNG S? ?MODULUS"
        r"|(STIFFNESS|THICKNESS) MAPS?|MEAN EXCITATION|I VAL(UE)?S?",
        _ANOTHER,
    ),
    (r"MASS ?DENSITY|PHYSICAL DENSITY|MASSEN ?DICHTE|DENSITE MASSIQUE|DENSIDAD (DE MASA|FISICA)", _MASS),
    (r"PHOTO ?ELECTRIC\w*|PHOTOEFFE[CK]T|COMPTON( SCATTER)?|(SCATTER|PHOTO) BASIS", _BASIS),
    (r"\w*SPR|RSP|STOPPING POWER|POUVOIR D ARRET", _POWER),
    (
        r"\w*SUB?TRA[CK]?T(ION|ED|IE|IERT)?|DSA|\w*DIFFERENZ(BILD(ER)?)?|POST (MINUS )?PRE|SUBTRAHIERT"
        r"|SOUSTRACTION|SOTTRAZIONE|SU[BS]*TRACC?ION|SUBTRACAO"
        r"|DIFF|DIFF?EREN(CE|ZA?|CIA|CA)|VERSCHIL\w*|DELTA",
        "differences",
    ),
    (r"RATIO|QUOTIENTE?|COCIENTE|QUOZIENTE|VERHA?E?LTNIS|VERHOUDING", "ratios"),
    (
        r"MAPS?|HEAT ?MAPS?|\w*KART(EN?|AN?|TA|ET)|\w+KORT(ET)?|HARITA\w*|TERKEP\w*"
        r"|MAPY|CARTES?|CARTOGRAPHIE|MAPAS?|MAPP[AE]|\w*KAART|\w*PROBABILIT(Y|IES)"
        r"|SEGMENTATIONS?|MASKS?|LABELS?|XENON|VENTILATION|LUNG ?VESSELS?|LUNGENGEFA?E?SSE",
        _MAP,
    ),
    # Products that show a material in colours or alone, whose names a protocol may have, too.
    (
        r"CONTRAST ENHANCED STRUCTURES?|(KIDNEY|RENAL) STONES?|NIERENSTEINE?|GOUT|GICHT|GOUTTE|GOTA|GOTTA"
        r"|JICHT|TOPHI|BRAIN H(A?E)?MORR?HAGE|HIRNBLUTUNG|HARD ?PLAQUES?|BLOODPOOL|HEART PBV|XENON|TENDON\w*",
        SHOWN_ALONE,
    ),
)
# Within Image Type, which never mentions a contrast agent, the material alone suffices.
IN_IMAGE_TYPE: Names = (*QUANTITIES, (rf"{_MATERIAL}|DENSITY", _DENSITY), ("B[FV]|PS", _PERFUSION))
# What is left when a material is taken out is HU, as computed from a spectral scan.
_VIRTUAL = (
    r"VNC|VNCA|VNI|VUE|CA ?SUPP?(RESSED)?|PURE ?(LUMEN|CALCIUM)"
    r"|(BONE ?MARROW|KNOCHENMARK|MOELLE OSSEUSE|MEDULA (OSEA|OSSEA)|MIDOLLO OSSEO|BEENMERG)"
    r"(?! ?(BIOP|PUN[CK]T|ASPIR|TRANSPL|PONCT))"
    rf"|{_ANY_MATERIAL} ?(SUPP?RESSED|SUPPRIMIERT|SUPPRIME|SUPRIMIDO|SOPPRESSO|ONDERDRUKT|REMOVED|FREE)"
    r"|VIRTU(AL|ALE|EEL|EL|ELL|ELLES?) (NATIV\w*|NON ?(CONTRAST|CALCIUM|IODINE|ENHANCED)|UNENHANCED"
    r"|BLAN[CK]O?|SANS (CONTRASTE|CALCIUM|IODE|INJECTION))|VIRTUALE? (SIN|SENZA|SEM) \w+|NON CALCIUM"
)
_KEV = re.compile(
    r"(?<![\d.])(\d{2,3}(?:\.\d+)?)[ _]?KEV\b|\bKEV[ _:=]{0,2}(\d{2,3}(?:\.\d+)?)(?![\d.])", re.I
)
_VIRTUAL_IMAGE = re.compile(rf"\b({_VIRTUAL})\b")
# And a scan of something in which a material is looked for is one.
TAKEN_OUT = re.compile(
    r"\b(NO|NON|WITHOUT|MINUS|LESS|REMOVED|REMOVAL|SUPPRESSED|SUPPRESSION|FREE|TUE|UNENHANCED"
    rf"|{_ANY_MATERIAL} ?SUBTRACTED|SCOR(E|ING)|PHANTOMS?|CALIBRATION|{_VIRTUAL})\b"
)
_MADE_OF_BOTH = re.compile(r"\bNO WATER\b|\bVNC (UND|AND|ET|Y|E|EN) IOD")

# Units that no CT image has: concentrations, perfusion, densities of electrons. After a number they are the
# contrast agent's dose.
UNIT = re.compile(
    r"(?<![\d.,])(?<!\d )(?<![A-Z])"
    r"([MUµμ]?G ?(\(?(I|IODINE|CA|HAP)\)? ?)?/ ?(ML|CC|CM\^?3)"
    r"|ML ?/ ?(MIN ?/ ?)?100 ?(G|ML|CC)( ?/ ?(MIN|S(EC)?))?|%? ?EDW"
    r"|(?<=[\[(])%(?=[\])]))(?![A-Z])"
)


@lru_cache(maxsize=512)
def quantity(said: str, known: Names = QUANTITIES) -> str:
    """Return the quantity that is named among `words`, or an empty text."""
    if TAKEN_OUT.search(said) and not _MADE_OF_BOTH.search(said):
        return ""
    return next((name for names, name in known if re.search(rf"\b({names})(\b|$)", said)), "")


#: What projects the highest or lowest of several slices into one.
EXTREMES = r"T?MIPS?|MINIPS?|MAX ?IP|MIN ?IP|(MAXIMUM|MINIMUM) INTENSITY( PROJECTION)?"
#: What projects several slices into one, means of them too, and thin slices of which it is to be made.
_MEAN = r"(AVE|AVG|AVERAGE|MEAN|MITTEL(WERT)?|MOYENNE|MEDIA)"
PROJECTION = re.compile(
    rf"\b({EXTREMES}|AVE? ?IP|AIP|RAY ?SUM|AVERAGE INTENSITY( PROJECTION)?|{_MEAN} \d+ ?MM|\d+ ?MM {_MEAN})\b"
)
FOR_PROJECTION = re.compile(r"\b(FOR|FUE?R|POUR|PARA|PER|VOOR|TIL|NO|KEINE?) (T?MIPS?|MINIPS?)\b")


def virtual(said: str) -> str:
    """Return what among `words` names an image in HU that was computed: at an energy, without a material."""
    if without := taken_out(said):
        return without
    found = AT_AN_ENERGY.search(said)
    return found[0].strip() if found else ""


def taken_out(said: str) -> str:
    """Return what among `words` names an image in HU from which a material was taken out."""
    found = _VIRTUAL_IMAGE.search(said)
    return found[0].strip() if found else ""


def note_with_air(where: str, named: str) -> str:
    """Return the note on an image with air at -1000 of which a text, `where`, tells another quantity; '' for
    one that many a CT is named after."""
    if named in NOTED:
        return f"{where} tells of {named}; taken for Hounsfield units, as air is at -1000 in it"
    if named in WITH_AIR:
        return (
            f"{where} tells of {named}, of which some programs make images with air at -1000, too: make sure "
            "that it is a CT in Hounsfield units and no map"
        )
    return ""


def note_of_derived(named: str) -> str:
    """Return the note on a derived image with air at -1000 whose description tells of such a quantity."""
    if named not in NOTED_IF_DERIVED:
        return ""
    return (
        f"its description tells of {named}, and its Image Type says DERIVED; taken for Hounsfield units, as "
        "air is at -1000 in it: make sure that it is a CT and no map"
    )


def kev_in(said: str) -> frozenset[float]:
    """Return the energies in keV that a text names."""
    return frozenset(float(one or other) for one, other in _KEV.findall(said))


def words(said: Any) -> str:
    """Return a text in capital letters without accents; all other signs but brackets as spaces."""
    return _words_of(str(said))


@lru_cache(maxsize=512)
def _words_of(said: str) -> str:
    said = _JOINED.sub(" ", said)
    if not said.isascii():
        said = unicodedata.normalize("NFKC", said).upper()
        for names, english in _IN_OTHER_SCRIPTS:
            said = re.sub(names, english, said)
    plain = unicodedata.normalize("NFKD", said).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Z0-9()]+", " ", plain.upper()).strip()


@lru_cache(maxsize=256)
def capitals(said: str) -> str:
    """Return a text in which units are looked for: in capitals, raised digits as others."""
    return re.sub("[µμ]", "u", said).translate(_RAISED).upper()


def projected(said: str) -> str:
    """Return what in words calls an image a projection through several slices, such as 'MIP'; '' for none."""
    named = None if FOR_PROJECTION.search(said) else PROJECTION.search(said)
    return named[0].strip() if named else ""


def note_of_projected(where: str, named: str) -> str:
    """Return the note on an image that is called so (`projected`)."""
    return (
        f"{where} calls it a projection through several slices ({named}): its HU are the highest or lowest "
        "of them, or their mean; give the slices that it was made from"
    )
