//! The table of MIME types that have an id.

use std::fmt;

macro_rules! well_known {
    ($($id:literal $variant:ident $name:literal)*) => {
        /// The types with an id of their own (WKM-01).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum WellKnownMime {
            $(#[doc = concat!("`", $name, "`, id ", stringify!($id))] $variant = $id,)*
        }

        impl WellKnownMime {
            /// All of them, by ascending id.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The type with this id; none for 0x2B..=0x79, which are reserved, and from 0x80 on.
            pub const fn from_id(id: u8) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

well_known! {
    0x00 Avro "application/avro"
    0x01 Cbor "application/cbor"
    0x02 Graphql "application/graphql"
    0x03 Gzip "application/gzip"
    0x04 Javascript "application/javascript"
    0x05 Json "application/json"
    0x06 OctetStream "application/octet-stream"
    0x07 Pdf "application/pdf"
    0x08 ThriftBinary "application/vnd.apache.thrift.binary"
    0x09 Protobuf "application/vnd.google.protobuf"
    0x0A Xml "application/xml"
    0x0B Zip "application/zip"
    0x0C AudioAac "audio/aac"
    0x0D AudioMp3 "audio/mp3"
    0x0E AudioMp4 "audio/mp4"
    0x0F AudioMpeg3 "audio/mpeg3"
    0x10 AudioMpeg "audio/mpeg"
    0x11 AudioOgg "audio/ogg"
    0x12 AudioOpus "audio/opus"
    0x13 AudioVorbis "audio/vorbis"
    0x14 ImageBmp "image/bmp"
    0x15 ImageGif "image/gif"
    0x16 ImageHeicSequence "image/heic-sequence"
    0x17 ImageHeic "image/heic"
    0x18 ImageHeifSequence "image/heif-sequence"
    0x19 ImageHeif "image/heif"
    0x1A ImageJpeg "image/jpeg"
    0x1B ImagePng "image/png"
    0x1C ImageTiff "image/tiff"
    0x1D MultipartMixed "multipart/mixed"
    0x1E TextCss "text/css"
    0x1F TextCsv "text/csv"
    0x20 TextHtml "text/html"
    0x21 TextPlain "text/plain"
    0x22 TextXml "text/xml"
    0x23 VideoH264 "video/H264"
    0x24 VideoH265 "video/H265"
    0x25 VideoVp8 "video/VP8"
    0x26 Hessian "application/x-hessian"
    0x27 JavaObject "application/x-java-object"
    0x28 CloudEventsJson "application/cloudevents+json"
    0x29 Capnp "application/x-capnp"
    0x2A Flatbuffers "application/x-flatbuffers"
    0x7A MimeType "message/x.rsocket.mime-type.v0"
    0x7B AcceptMimeTypes "message/x.rsocket.accept-mime-types.v0"
    0x7C Authentication "message/x.rsocket.authentication.v0"
    0x7D Tracing "message/x.rsocket.tracing-zipkin.v0"
    0x7E Routing "message/x.rsocket.routing.v0"
    0x7F CompositeMetadata "message/x.rsocket.composite-metadata.v0"
}

impl WellKnownMime {
    /// The id, 0 to 0x7F.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The type with this name, in any ASCII case.
    pub fn from_name(name: impl AsRef<[u8]>) -> Option<Self> {
        let name = name.as_ref();
        // Linear, but only a name of the right length is looked at.
        Self::ALL.iter().copied().find(|known| known.as_str().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether other implementations know the id: no one has the last two (WKM-04).
    pub(super) const fn is_deployed(self) -> bool {
        !matches!(self, Self::Capnp | Self::Flatbuffers)
    }
}

impl fmt::Display for WellKnownMime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_to_each_other() {
        assert_eq!(WellKnownMime::ALL.len(), 49);
        assert!(WellKnownMime::ALL.is_sorted_by_key(|known| known.id()));
        for &known in WellKnownMime::ALL {
            assert_eq!(WellKnownMime::from_id(known.id()), Some(known));
            assert_eq!(WellKnownMime::from_name(known.as_str()), Some(known));
            assert_eq!(WellKnownMime::from_name(known.as_str().to_uppercase()), Some(known));
        }
    }

    #[test]
    fn reserved_ids_stand_for_nothing() {
        for id in (0x2B..=0x79).chain(0x80..=0xFF) {
            assert_eq!(WellKnownMime::from_id(id), None);
        }
    }

    #[test]
    fn names_match_as_a_whole() {
        for name in ["", "text", "text/plain ", "text/plain; charset=utf-8", "text/plaim"] {
            assert_eq!(WellKnownMime::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn the_ends_of_the_table_are_where_the_extensions_put_them() {
        for (id, name) in [
            (0x00, "application/avro"),
            (0x0F, "audio/mpeg3"),
            (0x10, "audio/mpeg"),
            (0x1F, "text/csv"),
            (0x20, "text/html"),
            (0x2A, "application/x-flatbuffers"),
            (0x7A, "message/x.rsocket.mime-type.v0"),
            (0x7F, "message/x.rsocket.composite-metadata.v0"),
        ] {
            assert_eq!(WellKnownMime::from_id(id).map(WellKnownMime::as_str), Some(name));
        }
    }
}
