//! Writing SDDL.

use super::super::{Ace, AceBody, AclSlot, SecurityDescriptor, Sid, ace_types};
use super::{SddlError, claim, condition, read, tables};
use std::fmt::Write;

pub(super) fn descriptor(descriptor: &SecurityDescriptor) -> Result<String, SddlError> {
    let SecurityDescriptor { control, owner, group, sacl, dacl, .. } = descriptor;
    let mut text = String::new();
    for (part, sid) in [("O:", owner), ("G:", group)] {
        if let Some(sid) = sid {
            text.push_str(part);
            text.push_str(&sid_text(sid));
        }
    }
    let flags = |bit: fn(&(&'static str, u16, u16)) -> u16| {
        tables::ACL_FLAGS
            .iter()
            .filter(move |flag| control & bit(flag) != 0)
            .map(|(word, ..)| *word)
            .collect()
    };
    slot(&mut text, "DACL", dacl, flags(|(_, dacl, _)| *dacl))?;
    slot(&mut text, "SACL", sacl, flags(|(_, _, sacl)| *sacl))?;
    Ok(text)
}

/// The alias of a SID, or its numbers.
pub(super) fn sid_text(sid: &Sid) -> String {
    let mut known = tables::SIDS.iter().chain([&tables::USER_MODE_DRIVERS]);
    known.find(|(_, known)| known == sid).map_or_else(|| sid.to_string(), |(alias, _)| (*alias).to_owned())
}

fn slot(text: &mut String, list: &'static str, slot: &AclSlot, flags: String) -> Result<(), SddlError> {
    if *slot == AclSlot::Absent {
        return Ok(());
    }
    text.push_str(&list[..1]);
    text.push(':');
    text.push_str(&flags);
    let AclSlot::List(acl) = slot else {
        text.push_str(tables::NULL_ACL);
        return Ok(());
    };
    for (index, ace) in acl.aces.iter().enumerate() {
        let no_text = |reason| SddlError::NoText { list, index, ace_type: ace.ace_type, reason };
        text.push_str(&ace_text(ace).map_err(no_text)?);
    }
    Ok(())
}

/// The text of an ACE, or the reason why it has none.
fn ace_text(ace: &Ace) -> Result<String, &'static str> {
    let (word, _, form) = tables::ACE_TYPES
        .iter()
        .find(|(_, number, _)| *number == ace.ace_type)
        .ok_or("SDDL of this type is not written")?;
    let flags: String =
        tables::ACE_FLAGS.iter().filter(|(_, bit)| ace.flags & bit != 0).map(|(word, _)| *word).collect();
    let (mask, guids, sid, extra) = match &ace.body {
        AceBody::Plain { mask, sid, extra } => (*mask, [None, None], sid, extra),
        AceBody::Object { mask, object_type, inherited_object_type, sid, extra } => {
            (*mask, [*object_type, *inherited_object_type], sid, extra)
        }
        AceBody::Raw(_) => return Err("its layout is unknown"),
    };
    let seventh = match form {
        tables::Form::Plain | tables::Form::Object if extra.is_empty() => String::new(),
        tables::Form::Plain | tables::Form::Object => return Err("bytes follow its SID"),
        tables::Form::Conditional | tables::Form::ConditionalObject => {
            format!(";{}", condition::text(extra).ok_or("its condition is none that SDDL can express")?)
        }
        tables::Form::ResourceAttribute => {
            format!(";{}", claim::text(extra).ok_or("its attribute is none that SDDL can express")?)
        }
    };
    let mask = if ace.ace_type == ace_types::SYSTEM_MANDATORY_LABEL {
        named(mask, &tables::LABEL_POLICIES).unwrap_or_else(|| number(mask))
    } else {
        mask_text(mask)
    };
    let [object, inherited] = guids.map(guid_text);
    Ok(format!("({word};{flags};{mask};{object};{inherited};{}{seventh})", sid_text(sid)))
}

fn mask_text(mask: u32) -> String {
    let whole = tables::MASKS.iter().find(|(_, known)| *known == mask).map(|(word, _)| (*word).to_owned());
    whole.or_else(|| named(mask, &tables::RIGHTS)).unwrap_or_else(|| number(mask))
}

fn number(mask: u32) -> String {
    format!("{mask:#x}")
}

/// The names of all bits, if every bit has one.
fn named(mask: u32, names: &[(&str, u32)]) -> Option<String> {
    let all = names.iter().fold(0, |all, (_, bit)| all | bit);
    let words = names.iter().filter(|(_, bit)| mask & bit != 0).map(|(word, _)| *word);
    (mask & !all == 0).then(|| words.collect())
}

fn guid_text(guid: Option<[u8; 16]>) -> String {
    let Some(mut bytes) = guid else { return String::new() };
    read::swap_guid(&mut bytes);
    let mut text = String::new();
    for (index, byte) in bytes.into_iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
