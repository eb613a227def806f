//! The keys that make texts comparable on every database engine: unique keys and search texts.
//!
//! A separate crate, because two others must agree on them: the service, which stores them beside the texts, and the
//! migrations, which recompute them when their definition changes.

use icu_casemap::CaseMapper;
use icu_normalizer::{
    ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed,
    properties::CanonicalCombiningClassMapBorrowed,
};
use icu_properties::{CodePointSetData, CodePointSetDataBorrowed, props};
use sha2::{Digest, Sha256};

const DEFAULT_IGNORABLE: CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<props::DefaultIgnorableCodePoint>();
const COMBINING_CLASS: CanonicalCombiningClassMapBorrowed<'static> =
    CanonicalCombiningClassMapBorrowed::new();

/// Whether a character is a Unicode `Default_Ignorable_Code_Point`: joiners, variation selectors, soft hyphens, zero
/// width spaces, fillers.
#[must_use]
pub fn is_default_ignorable(c: char) -> bool {
    !c.is_ascii() && DEFAULT_IGNORABLE.contains(c)
}

/// The SHA-256 of a name's [`casefold`]ing: equal for names that count as equal.
///
/// A digest, because the folding of 255 characters can be longer than a database can index.
#[must_use]
pub fn unique_key(name: &str) -> Vec<u8> {
    // Ignorable characters must not protect white space from being trimmed.
    let name = name.trim_matches(|c: char| c.is_whitespace() || is_default_ignorable(c));
    Sha256::digest(casefold(name)).to_vec()
}

/// The SHA-256 of a name's [`compatibility_casefold`]ing: the original definition of [`unique_key`], which a migration
/// can revert to.
#[must_use]
pub fn compatibility_key(name: &str) -> Vec<u8> {
    Sha256::digest(compatibility_casefold(name)).to_vec()
}

/// The text in which the words of a query are searched; the query is converted in the same way.
///
/// It is [`casefold`]ed and has no accents: no combining marks of classes 1, 10 to 36 and 200 and above. These are the
/// marks of Latin, Greek and Cyrillic letters, and the vowel points of Hebrew, Arabic and Syriac, which are optional.
/// Marks that distinguish words are kept: vowel signs, viramas and nuktas of Indic scripts, kana voicing marks, Thai
/// and Lao tones. Letters with a stroke and ligatures are replaced by the letters that the root collation (UTS #10)
/// compares them as.
#[must_use]
pub fn search_text(text: &str) -> String {
    let folded = casefold(text);
    if folded.is_ascii() {
        return folded;
    }
    let decomposed = DecomposingNormalizerBorrowed::new_nfd().normalize(&folded);
    let mut bare = String::with_capacity(decomposed.len());
    for c in decomposed.chars().filter(|c| !is_accent(*c)) {
        match c {
            'æ' => bare.push_str("ae"),
            'œ' => bare.push_str("oe"),
            'đ' => bare.push('d'),
            'ħ' => bare.push('h'),
            'ı' => bare.push('i'),
            'ł' => bare.push('l'),
            'ø' => bare.push('o'),
            'ŧ' => bare.push('t'),
            c => bare.push(c),
        }
    }
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(&bare);
    composed.into_owned()
}

fn is_accent(c: char) -> bool {
    matches!(COMBINING_CLASS.get_u8(c), 1 | 10..=36 | 200..=255)
}

/// `toNFKC_Casefold(NFD(X))`, Unicode Standard 3.13, D147: ignores case, compatibility forms and default ignorable
/// characters.
#[must_use]
pub fn casefold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let seen: String = text.chars().filter(|c| !is_default_ignorable(*c)).collect();
    // Neither folding nor composition produces ignorable characters.
    compatibility_casefold(&seen)
}

/// `NFKC(fold(NFKC(fold(NFD(X)))))`, Unicode Standard 3.13, D146: ignores case and compatibility forms.
#[must_use]
pub fn compatibility_casefold(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let case = CaseMapper::new();
    let decomposed = DecomposingNormalizerBorrowed::new_nfd().normalize(text);
    let once = case.fold_string(&decomposed);
    let once = nfkc.normalize(&once);
    let twice = case.fold_string(&once);
    nfkc.normalize(&twice).into_owned()
}
