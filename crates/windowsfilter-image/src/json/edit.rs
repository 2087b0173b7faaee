//! Edits a document: unedited members keep their exact text.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;
use serde::de::DeserializeOwned;

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
            return Err(JsonError::new("it is not an object"));
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
            Some(_) => Err(JsonError::new("it is not a list").within(name)),
        }
    }

    /// Sets the field `name`, under its present key; removes a second spelling.
    pub(crate) fn set(&mut self, name: &str, value: &impl Serialize) {
        self.set_text(name, json(value));
    }

    /// The string, number or truth value in the field `name`; its default if missing.
    pub(crate) fn value<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, JsonError> {
        // As in Go, `null` sets nothing: an earlier spelling of the field counts then.
        match self.values(name).rfind(|value| *value != "null") {
            None => Ok(T::default()),
            Some(value) => read(value.as_bytes()).map_err(|error| error.within(name)),
        }
    }

    /// The map in the field `name`; an empty one if it has none. As in Go, `null` empties a map.
    pub(crate) fn map(&self, name: &str) -> Result<Self, JsonError> {
        let mut map = Self::default();
        for value in self.values(name) {
            match value {
                "null" => map.members.clear(),
                _ => map.extend(value).map_err(|error| error.within(name))?,
            }
        }
        Ok(map)
    }

    /// Empties the field `name`: it goes, in every spelling.
    pub(crate) fn remove(&mut self, name: &str) {
        self.members.retain(|(key, _)| !equal_fold(name, &unquoted(key)));
    }

    /// Sets entries of a map, where keys that differ in case are different keys.
    pub(crate) fn set_entries<V: Serialize>(&mut self, entries: impl IntoIterator<Item = (String, V)>) {
        let keys = self.members.iter().enumerate();
        // Of equal keys the last counts.
        let mut places: HashMap<String, usize> =
            keys.map(|(place, (key, _))| (unquoted(key).into_owned(), place)).collect();
        for (key, value) in entries {
            match places.entry(key) {
                Entry::Occupied(place) => self.members[*place.get()].1 = json(&value),
                Entry::Vacant(place) => {
                    self.members.push((json(place.key()), json(&value)));
                    place.insert(self.members.len() - 1);
                }
            }
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
