//! Allowed characters in texts.

use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed,
    props::GeneralCategory::{self, *},
};

const CATEGORY: CodePointMapDataBorrowed<'static, GeneralCategory> =
    CodePointMapData::<GeneralCategory>::new();

/// The description of a character that is forbidden in names; `None` if it is allowed.
pub(super) fn forbidden_in_names(c: char) -> Option<&'static str> {
    match c {
        _ if c.is_control() => Some("control character"),
        '\u{2028}' => Some("line separator"),
        '\u{2029}' => Some("paragraph separator"),
        // Unicode's Bidi_Control: they can make a name look like another one.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some("bidirectional control")
        }
        '\u{fdd0}'..='\u{fdef}' => Some("noncharacter"),
        _ if u32::from(c) & 0xfffe == 0xfffe => Some("noncharacter"),
        _ => None,
    }
}

/// The description of a character that is forbidden in queries; `None` if it is allowed.
pub(super) fn forbidden_in_queries(c: char) -> Option<&'static str> {
    c.is_control().then_some("control character")
}

/// The description of a character that is forbidden in descriptions; `None` if it is allowed.
pub(super) fn forbidden_in_descriptions(c: char) -> Option<&'static str> {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t')).then_some("control character")
}

/// Reports the first forbidden character of each kind.
pub(super) fn check_characters(
    text: &str,
    forbidden: fn(char) -> Option<&'static str>,
) -> Result<(), String> {
    let mut kinds = Vec::new();
    let mut complaints = Vec::new();
    for c in text.chars() {
        if let Some(kind) = forbidden(c).filter(|kind| !kinds.contains(kind)) {
            kinds.push(kind);
            complaints.push(format!("the {kind} U+{:04X}", u32::from(c)));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    Err(format!("must not contain {}", complaints.join(", ")))
}

/// Rejects a text without any visible character.
pub(super) fn check_visible(text: &str) -> Result<(), String> {
    if text.chars().any(is_visible) {
        return Ok(());
    }
    Err("must have at least one visible character".to_owned())
}

/// Whether a character is visible by itself. Combining marks aren't: they join the preceding character.
fn is_visible(c: char) -> bool {
    const BRAILLE_BLANK: char = '\u{2800}';
    let invisible = matches!(
        CATEGORY.get(c),
        Control
            | Format
            | SpaceSeparator
            | LineSeparator
            | ParagraphSeparator
            | NonspacingMark
            | EnclosingMark
    );
    !invisible && c != BRAILLE_BLANK && !textkeys::is_default_ignorable(c)
}
