//! Edits a document: unedited members keep their exact text.

use serde::Serialize;

use super::{JsonError, Raw, checked, equal_fold, members, parts, read, unquoted};
use crate::error::Error;

/// An object with its members in the original order and spelling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// Keys, with their quotes, and values.
    members: Vec<(String, String)>,
}

impl Object {
    /// Parses the document `bytes`; errors call it `what`.
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Self, Error> {
        let failed = |source| Error::Json { what: what.into(), source };
        let text = checked(bytes).map_err(failed)?;
        let mut object = Self::default();
        object.extend(&text).map_err(failed)?;
        Ok(object)
    }

    fn extend(&mut self, text: &str) -> Result<(), JsonError> {
        if !text.starts_with('{') {
            return Err(JsonError::new("it is no object"));
        }
        self.members.extend(members(text).map(|(key, value)| (key.to_owned(), value.to_owned())));
        Ok(())
    }

    /// The values of the field `name`, whatever the case of their keys.
    fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        let of_field = move |(key, _): &&(String, String)| equal_fold(name, &unquoted(key));
        self.members.iter().filter(of_field).map(|(_, value)| value.as_str())
    }

    /// The object in the field `name`; empty if missing.
    pub(crate) fn object(&self, name: &str) -> Result<Self, JsonError> {
        let mut object = Self::default();
        for value in self.values(name).filter(|value| *value != "null") {
            object.extend(value).map_err(|error| error.within(name))?;
        }
        Ok(object)
    }

    /// The list in the field `name`; empty if missing.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<Raw>, JsonError> {
        match self.values(name).next_back() {
            None | Some("null") => Ok(Vec::new()),
            Some(list) if list.starts_with('[') => Ok(parts(list).map(|part| Raw(part.to_owned())).collect()),
            Some(_) => Err(JsonError::new("it is no list").within(name)),
        }
    }

    /// Sets the field `name`, under its present key; removes a second spelling.
    pub(crate) fn set(&mut self, name: &str, value: &impl Serialize) {
        self.set_text(name, json(value));
    }

    /// The string in the field `name`; empty if it has none.
    pub(crate) fn string(&self, name: &str) -> Result<String, JsonError> {
        match self.values(name).next_back() {
            None | Some("null") => Ok(String::new()),
            Some(value) => read(value.as_bytes()).map_err(|error| error.within(name)),
        }
    }

    /// Empties the field `name`: it goes, in every spelling.
    pub(crate) fn remove(&mut self, name: &str) {
        self.members.retain(|(key, _)| !equal_fold(name, &unquoted(key)));
    }

    /// Sets the value of the key `key` itself: in a map, keys that differ in case are different keys.
    pub(crate) fn set_entry(&mut self, key: &str, value: &impl Serialize) {
        let place = self.members.iter().rposition(|(old, _)| unquoted(old) == key);
        match place {
            Some(place) => self.members[place].1 = json(value),
            None => self.members.push((json(&key), json(value))),
        }
    }

    /// Like [`Self::set`], with another object.
    pub(crate) fn set_object(&mut self, name: &str, object: &Self) {
        self.set_text(name, object.text());
    }

    /// Like [`Self::set`], with a list.
    pub(crate) fn set_list(&mut self, name: &str, list: &[Raw]) {
        let parts: Vec<&str> = list.iter().map(Raw::as_str).collect();
        self.set_text(name, format!("[{}]", parts.join(",")));
    }

    fn set_text(&mut self, name: &str, text: String) {
        let is_field = |(key, _): &(String, String)| equal_fold(name, &unquoted(key));
        // Of two spellings Go uses the last.
        let place = self.members.iter().rposition(is_field);
        let key = place.map_or_else(|| json(&name), |place| self.members[place].0.clone());
        let before =
            place.map(|place| self.members[..place].iter().filter(|member| !is_field(member)).count());
        self.members.retain(|member| !is_field(member));
        self.members.insert(before.unwrap_or(self.members.len()), (key, text));
    }

    /// The object as a document.
    pub(crate) fn text(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

impl Raw {
    /// Serializes `value`.
    pub(crate) fn of(value: &impl Serialize) -> Self {
        Self(json(value))
    }
}

impl From<&Object> for Raw {
    fn from(object: &Object) -> Self {
        Self(object.text())
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("documents have string keys and finite numbers")
}
