//! The deserializer: fills Rust's structs from a document's text by Go's rules.

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{JsonError, RAW, field, members, parts, unquoted};

/// Longest map key to show in an error.
const LONGEST_KEY: usize = 100;

/// The input of one field: the text of its value, and of the field's earlier values.
pub(super) struct Node<'a> {
    last: &'a str,
    earlier: Vec<&'a str>,
}

impl<'a> Node<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { last: text, earlier: Vec::new() }
    }

    fn push(&mut self, text: &'a str) {
        self.earlier.push(std::mem::replace(&mut self.last, text));
    }

    fn values(&self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.earlier.iter().copied().chain([self.last])
    }

    fn is_null(&self) -> bool {
        self.values().all(|text| text == "null")
    }

    /// The value of a field that `null` does not change.
    fn scalar(&self) -> Option<&'a str> {
        self.values().rev().find(|text| *text != "null")
    }

    fn wrong<'de, V: Visitor<'de>>(text: &str, visitor: &V) -> JsonError {
        let found = match text.bytes().next() {
            Some(b'{') => Unexpected::Map,
            Some(b'[') => Unexpected::Seq,
            Some(b'"') => Unexpected::Other("a string"),
            Some(b't' | b'f') => Unexpected::Other("true or false"),
            Some(b'n') => Unexpected::Other("null"),
            _ => Unexpected::Other("a number"),
        };
        JsonError::invalid_type(found, visitor)
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let Some(text) = self.scalar() else { return visitor.visit_u64(0) };
        if let Ok(number) = text.parse::<u64>() {
            return visitor.visit_u64(number);
        }
        match text.parse::<i64>() {
            Ok(number) => visitor.visit_i64(number),
            Err(_) => Err(Self::wrong(text, &visitor)),
        }
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.scalar().and_then(|text| text.bytes().next()) {
            None => visitor.visit_unit(),
            Some(b'{') => self.deserialize_map(visitor),
            Some(b'[') => self.deserialize_seq(visitor),
            Some(b'"') => self.deserialize_string(visitor),
            Some(b't' | b'f') => self.deserialize_bool(visitor),
            Some(_) => self.integer(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.scalar() {
            None => visitor.visit_str(""),
            Some(text) if text.starts_with('"') => visitor.visit_str(&unquoted(text)),
            Some(text) => Err(Self::wrong(text, &visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.scalar() {
            None | Some("false") => visitor.visit_bool(false),
            Some("true") => visitor.visit_bool(true),
            Some(text) => Err(Self::wrong(text, &visitor)),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.integer(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.integer(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.integer(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.last {
            "null" => visitor.visit_seq(Elements { parts: std::iter::empty(), index: 0 }),
            list if list.starts_with('[') => visitor.visit_seq(Elements { parts: parts(list), index: 0 }),
            other => Err(Self::wrong(other, &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let mut objects: Vec<&str> = self.values().rev().take_while(|text| *text != "null").collect();
        objects.reverse();
        if let Some(other) = objects.iter().find(|text| !text.starts_with('{')) {
            return Err(Self::wrong(other, &visitor));
        }
        let members = objects.into_iter().flat_map(members);
        visitor
            .visit_map(Members { members: members.map(|(key, value)| (unquoted(key), value)), current: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        let mut found: Vec<(&'static str, Node<'_>)> = Vec::new();
        for object in self.values().filter(|text| *text != "null") {
            if !object.starts_with('{') {
                return Err(Self::wrong(object, &visitor));
            }
            for (key, value) in members(object) {
                let Some(field) = field(fields, &unquoted(key)) else { continue };
                match found.iter_mut().find(|(name, _)| *name == field) {
                    Some((_, node)) => node.push(value),
                    None => found.push((field, Node::new(value))),
                }
            }
        }
        found.retain(|(_, node)| !node.is_null());
        visitor.visit_map(Fields { fields: found.into_iter(), current: None })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        if name == RAW { visitor.visit_str(self.last) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

/// The elements of a list.
struct Elements<I> {
    parts: I,
    index: usize,
}

impl<'de, 'a, I: Iterator<Item = &'a str>> SeqAccess<'de> for Elements<I> {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, JsonError> {
        let Some(part) = self.parts.next() else { return Ok(None) };
        self.index += 1;
        let element = seed.deserialize(Node::new(part));
        element.map(Some).map_err(|error| error.within(&format!("[{}]", self.index - 1)))
    }
}

/// The members of a map; keys are taken literally.
struct Members<'a, I> {
    members: I,
    current: Option<(String, &'a str)>,
}

impl<'de, 'a, I: Iterator<Item = (std::borrow::Cow<'a, str>, &'a str)>> MapAccess<'de> for Members<'a, I> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, JsonError> {
        let Some((key, value)) = self.members.next() else { return Ok(None) };
        let name = seed.deserialize(key.as_ref().into_deserializer());
        self.current = Some((key.chars().take(LONGEST_KEY).collect(), value));
        name.map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, JsonError> {
        let (key, value) = self.current.take().ok_or_else(|| JsonError::new("a value without a key"))?;
        seed.deserialize(Node::new(value)).map_err(|error| error.within(&format!("[{key:?}]")))
    }
}

/// The fields of a struct in a document.
struct Fields<'a> {
    fields: std::vec::IntoIter<(&'static str, Node<'a>)>,
    current: Option<(&'static str, Node<'a>)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, JsonError> {
        self.current = self.fields.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        seed.deserialize((*name).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, JsonError> {
        let (name, node) = self.current.take().ok_or_else(|| JsonError::new("a value without a key"))?;
        seed.deserialize(node).map_err(|error| error.within(name))
    }
}
