"""Presidio as a second look for identifiers, where it and a model for it are installed; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

_KINDS = {
    "EMAIL_ADDRESS": "mail",
    "PHONE_NUMBER": "phone",
    "PERSON": "name",
    "US_SSN": "record_number",
    "US_PASSPORT": "record_number",
    "US_DRIVER_LICENSE": "record_number",
    "UK_NHS": "record_number",
    "MEDICAL_LICENSE": "record_number",
    "IBAN_CODE": "record_number",
    "CREDIT_CARD": "record_number",
}
"""Its names -> ours; what is not here (places, plain dates) is no identifier by itself."""
_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
_SURE = 0.5


@lru_cache(maxsize=1)
def recogniser() -> Callable[[str], list[tuple[int, int, str]]] | None:
    """From a text to where identifiers stand in it (start, stop, kind); None where Presidio or its English model is not
    installed. Made once: loading the model takes seconds."""
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
        from spacy.util import get_installed_models
    except ImportError:
        return None
    # Without a model by name it would fetch one from the network.
    model = next((name for name in _MODELS if name in get_installed_models()), None)
    if model is None:
        return None
    models = [{"lang_code": "en", "model_name": model}]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])

    def places(text: str) -> list[tuple[int, int, str]]:
        found = analyzer.analyze(text=text, language="en", entities=list(_KINDS), score_threshold=_SURE)
        return [(one.start, one.end, _KINDS[one.entity_type]) for one in found if one.entity_type in _KINDS]

    return places
