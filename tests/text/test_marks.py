"""What a rewrite cut, and what it added."""

from mpd.text import marks


def test_what_was_cut_is_marked():
    made = marks.marked("So 1+2=3. Wait. Yes.", "1+2=3. Yes.", "red")
    assert made.plain == "So 1+2=3. Wait. Yes."
    spans = [made.plain[span.start : span.end] for span in made.spans]
    assert spans == ["So ", "Wait. "]
    assert {span.style for span in made.spans} == {"red"}


def test_long_texts_are_compared_by_sentences_and_very_long_ones_not_at_all(monkeypatch):
    monkeypatch.setattr(marks, "MAX_WORK", 6)
    made = marks.marked("One two. Three four. Five.", "Three four. Five.", "red")
    assert [made.plain[span.start : span.end] for span in made.spans] == ["One two. "]
    made = marks.marked("One. Two. Three. Four.", "Two. Four.", "red")
    assert (made.plain, made.spans) == ("One. Two. Three. Four.", [])
