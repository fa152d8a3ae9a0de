//! The few fields of a certificate that are told or compared. Whether it is to be trusted is not looked at
//! here: of a peer's that has been done before.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// The fields of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Seconds since 1970.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// Of the subject, if it has exactly one.
    pub(super) common_name: Option<Box<str>>,
    pub(super) dns: Vec<Box<str>>,
    pub(super) uris: Vec<Box<str>>,
    pub(super) addresses: Vec<IpAddr>,
    /// SHA-256 of the public key, as it stands in the certificate.
    pub(super) key: [u8; 32],
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// UTF8String, PrintableString and IA5String: those of which text is made today.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl Fields {
    /// Reads a certificate (RFC 5280, section 4.1); `None` if it is none.
    pub(super) fn read(certificate: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(certificate).value(SEQUENCE)?);
        let mut fields = Der(certificate.value(SEQUENCE)?);
        // The version, which the first ones did not have.
        fields.skip_if(0xa0);
        // Its number, how it is signed, and by whom.
        for _ in 0..3 {
            fields.next()?;
        }
        let mut validity = Der(fields.value(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let common_name = common_name(fields.value(SEQUENCE)?);
        let key = fields.next().filter(|key| key.tag == SEQUENCE)?;
        let key = Sha256::digest(key.whole).into();
        let mut read = Self { not_before, not_after, common_name, key, ..Self::default() };
        while let Some(Element { tag, value, .. }) = fields.next() {
            if tag == 0xa3 {
                let mut extensions = Der(Der(value).value(SEQUENCE)?);
                while let Some(extension) = extensions.next() {
                    let mut extension = Der(extension.value);
                    if extension.value(OBJECT_IDENTIFIER)? == SUBJECT_ALT_NAME {
                        // Whether it is critical.
                        extension.skip_if(0x01);
                        let names = extension.value(OCTET_STRING)?;
                        read.take_names(Der(names).value(SEQUENCE)?);
                    }
                }
            }
        }
        Some(read)
    }

    fn take_names(&mut self, names: &[u8]) {
        let mut names = Der(names);
        while let Some(Element { tag, value, .. }) = names.next() {
            match tag {
                0x82 => self.dns.extend(text(value)),
                0x86 => self.uris.extend(text(value)),
                0x87 => self.addresses.extend(address(value)),
                _ => {}
            }
        }
    }
}

/// Text without anything that could be taken for something else where it is shown or compared.
fn text(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.into())
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Of a name; of two nobody knows which is meant.
fn common_name(name: &[u8]) -> Option<Box<str>> {
    let (mut name, mut found) = (Der(name), None);
    while let Some(part) = name.next() {
        let mut part = Der(part.value(SET)?);
        while let Some(attribute) = part.next() {
            let mut attribute = Der(attribute.value(SEQUENCE)?);
            if attribute.value(OBJECT_IDENTIFIER)? == COMMON_NAME {
                let value = attribute.next().filter(|value| TEXTS.contains(&value.tag))?;
                if found.replace(text(value.value)?).is_some() {
                    return None;
                }
            }
        }
    }
    found
}

/// Elements one after the other (X.690, the distinguished rules).
struct Der<'a>(&'a [u8]);

struct Element<'a> {
    tag: u8,
    value: &'a [u8],
    /// With tag and length.
    whole: &'a [u8],
}

impl<'a> Element<'a> {
    fn value(self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.value)
    }
}

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The length of the length: certificates are far below 16 MiB.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Element { tag, value, whole })
    }

    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()?.value(tag)
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }

    /// Seconds since 1970.
    fn time(&mut self) -> Option<i64> {
        let Element { tag, value, .. } = self.next()?;
        let digits = value.strip_suffix(b"Z").filter(|all| all.iter().all(u8::is_ascii_digit))?;
        let number = |digits: &[u8]| {
            digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
        };
        let (year, rest) = match (tag, digits.len()) {
            // RFC 5280, section 4.1.2.5.1: from 50 on it is of the last century.
            (UTC_TIME, 12) => {
                let year = number(&digits[..2]);
                (if year >= 50 { 1900 + year } else { 2000 + year }, &digits[2..])
            }
            (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
            _ => return None,
        };
        let [month, day, hour, minute, second] =
            [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
        let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
        (is_date && hour < 24 && minute < 60 && second <= 60)
            .then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
    }
}

/// Days from 1970 on, of the calendar that is in use.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day at its end.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970_on() {
        for (date, expected) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((2000, 2, 29), 11_016),
            ((2024, 3, 1), 19_783),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(days(date.0, date.1, date.2), expected, "{date:?}");
        }
    }

    #[test]
    fn times_are_read_in_both_ways() {
        let read = |tag: u8, text: &str| {
            let bytes = [&[tag, text.len() as u8], text.as_bytes()].concat();
            Der(&bytes).time()
        };
        assert_eq!(read(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(read(GENERALIZED_TIME, "20240301000000Z"), Some(19_783 * 86_400));
        assert_eq!(read(UTC_TIME, "491231235959Z"), read(GENERALIZED_TIME, "20491231235959Z"));
        for wrong in ["240301000000", "2403010000Z", "241301000000Z", "24030100000aZ", "Z", ""] {
            assert_eq!(read(UTC_TIME, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_beyond_what_there_is_are_no_elements() {
        for wrong in [&[][..], &[0x30], &[0x30, 1], &[0x30, 0x80], &[0x30, 0x84, 0, 0, 0, 0, 1]] {
            assert!(Der(wrong).next().is_none(), "{wrong:?}");
            assert!(Fields::read(wrong).is_none(), "{wrong:?}");
        }
        let element = Der(&[0x04, 0x81, 2, 7, 8, 9]).next().map(|element| element.value.to_vec());
        assert_eq!(element, Some(vec![7, 8]));
    }
}
