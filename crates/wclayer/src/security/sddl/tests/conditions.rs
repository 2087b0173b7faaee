//! Conditions and resource attributes: Microsoft's examples, Windows' output, and damaged or hostile ones.

use super::super::super::claim::{Claim, Values};
use super::super::super::condition::{AND, Base, Class, Kind, NOT, OPERATORS, OR, Sign, Token, begin, end};
use super::*;

/// The bytes behind the SID of the only ACE.
fn extra(list: &AclSlot) -> Vec<u8> {
    match &list.list().unwrap().aces[0].body {
        AceBody::Plain { extra, .. } | AceBody::Object { extra, .. } => extra.clone(),
        AceBody::Raw(_) => panic!("no known layout"),
    }
}

fn condition(text: &str) -> Vec<u8> {
    extra(&read(&format!("D:(XA;;FX;;;S-1-1-0;{text})")).dacl)
}

fn printed(text: &str) -> String {
    let text = read(&format!("D:(XA;;FX;;;WD;{text})")).to_sddl().unwrap();
    text.strip_prefix("D:(XA;;FX;;;WD;").and_then(|text| text.strip_suffix(')')).unwrap().to_owned()
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

/// Source: \[MS-DTYP\] 2.4.4.17.9.
#[test]
fn the_specifications_examples_have_its_bytes() {
    assert_eq!(
        condition(r#"(Title=="VP")"#),
        hex("61727478 f80a000000 5400690074006c006500 1004000000 56005000 80 000000")
    );
    assert_eq!(
        condition(r#"((@User.smartcard==1 || @Device.managed==1) && (@Resource.dept Any_of{"Sales","HR"}))"#),
        hex("61727478 f912000000 73006d00610072007400630061007200640004 0100000000000000 0302 80\
             fb0e000000 6d0061006e006100670065006400 04 0100000000000000 0302 80 a1\
             fa08000000 6400650070007400 5018000000 100a000000 530061006c0065007300 1004000000 48005200\
             88 a0 00")
    );
}

/// Source: \[MS-DTYP\] 2.5.1.4, 2.5.1.1; for Windows' output, Samba's `libcli/security/tests/windows`.
#[test]
fn the_specifications_texts_are_read_and_printed_as_by_windows() {
    for (text, expected) in [
        (
            r#"D:(XA; ;FX;;;S-1-1-0; (@User.Title=="PM" && (@User.Division=="Finance" || @User.Division =="Sales")))"#,
            r#"D:(XA;;FX;;;WD;((@USER.Title == "PM") && ((@USER.Division == "Finance") || (@USER.Division == "Sales"))))"#,
        ),
        (
            "D:(XA; ;FX;;;S-1-1-0; (@User.Project Any_of @Resource.Project))",
            "D:(XA;;FX;;;WD;(@USER.Project Any_of @RESOURCE.Project))",
        ),
        (
            "D:(XA; ;FR;;;S-1-1-0; (Member_of {SID(S-1-1-0), SID(BO)} && @Device.Bitlocker))",
            "D:(XA;;FR;;;WD;((Member_of {SID(WD), SID(BO)}) && (@DEVICE.Bitlocker)))",
        ),
        (
            "D:AI(XA;OICI;FA;;;WD;(OctetStringType==#1#2#3##))",
            "D:AI(XA;OICI;FA;;;WD;(OctetStringType == #01020300))",
        ),
        (
            "D:(ZA;;CR;00299570-246d-11d0-a768-00aa006e0529;;WD;(exists @user.a))(XD;;FX;;;BU;(a))",
            "D:(ZA;;CR;00299570-246d-11d0-a768-00aa006e0529;;WD;(Exists @USER.a))(XD;;FX;;;BU;(a))",
        ),
        (
            r#"S:(XU;SA;FA;;;WD;(@Resource.a != -0x1f))(RA;;;;;WD;("colour",TS,0,"blue", "red"))"#,
            r#"S:(XU;SA;FA;;;WD;(@RESOURCE.a != -0x1f))(RA;;;;;WD;("colour",TS,0x0,"blue","red"))"#,
        ),
        (
            r#"S:(RA;CI;;;;S-1-1-0;("Secrecy",TU,3,3))(RA;;;;;WD;("a%0020b",TD,0x1,BA, S-1-5-18))"#,
            r#"S:(RA;CI;;;;WD;("Secrecy",TU,0x3,3))(RA;;;;;WD;("a%0020b",TD,0x1,BA,SY))"#,
        ),
        (
            r#"S:(RA;;;;;WD;("x",TX,0,#77, 1, f##))(RA;;;;;WD;("y",TB,0,0,1))(RA;;;;;WD;("z",TI,0x10000,-8,010))"#,
            r#"S:(RA;;;;;WD;("x",TX,0x0,0077,01,0f00))(RA;;;;;WD;("y",TB,0x0,0,1))(RA;;;;;WD;("z",TI,0x10000,-8,8))"#,
        ),
        (r#"S:(RA;;;;;WD;("none",TI,0x0))"#, r#"S:(RA;;;;;WD;("none",TI,0x0))"#),
    ] {
        let descriptor = read(text);
        assert_eq!(descriptor.to_sddl().as_deref(), Ok(expected), "{text}");
        assert_eq!(read(expected), descriptor, "{text}");
        assert_eq!(SecurityDescriptor::parse(&descriptor.to_bytes().unwrap()), Ok(descriptor), "{text}");
    }
}

/// Made by Windows (Samba, `libcli/security/tests/windows/conditional_aces.txt.json`).
#[test]
fn an_attribute_has_the_bytes_that_windows_gives_it() {
    let sacl = read(r#"S:(RA;;;;;WD;("colour",TS,0,"blue", "red"))"#).sacl;
    let expected = "18000000 0300 0000 00000000 02000000 26000000 30000000 63006f006c006f00750072000000\
                    62006c00750065000000 7200650064000000";
    assert_eq!(extra(&sacl), hex(expected));
}

/// As Samba recorded it on Windows.
#[test]
fn what_binds_closer_comes_first_and_equals_from_the_left() {
    for (text, expected) in [
        ("(@USER.A && @Device.B && @USER.C)", "(((@USER.A) && (@DEVICE.B)) && (@USER.C))"),
        ("(@USER.A && @Device.B || @USER.C)", "(((@USER.A) && (@DEVICE.B)) || (@USER.C))"),
        ("(@USER.A || @Device.B && @USER.C)", "((@USER.A) || ((@DEVICE.B) && (@USER.C)))"),
        ("(!(!(!(Member_of{SID(AA)}))))", "(!(!(!(Member_of {SID(AA)}))))"),
        ("(!@User.a == 1 && b)", "((!(@USER.a == 1)) && (b))"),
        ("(mEMBER_of((sid(s-1-1-0))))", "(Member_of SID(WD))"),
        ("(Member_of_Any SID(BA))", "(Member_of_any SID(BA))"),
        ("(((a)))", "(a)"),
        ("(WIN://SYSAPPID Contains \"x y\")", "(WIN://SYSAPPID Contains \"x y\")"),
        ("(@Device.bb == 0xffffffffffffffff)", "(@DEVICE.bb == 0xffffffffffffffff)"),
        ("(@User.a == {1, +2, -3, 010, \"é\", #ab})", "(@USER.a == {1, +2, -3, 010, \"é\", #ab})"),
    ] {
        assert_eq!(printed(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_in_a_condition_is_named_with_its_position() {
    for (text, position, expected) in [
        ("", 0, "a condition in parentheses"),
        ("()", 1, "an attribute, Member_of, Exists, ! or ("),
        ("(a b)", 3, "&&, || or )"),
        ("(a & b)", 3, "&&, || or )"),
        ("(a == a)", 6, "a number, \"text\", #octets, SID(…) or a list of these in braces"),
        ("(! Member_of{SID(BA)})", 3, "( or an attribute such as @User.name behind !"),
        ("(Member_of_AnySID(BA))", 17, "&&, || or )"),
        ("(@Users.a)", 1, "@User., @Device. or @Resource."),
        ("(@User.)", 7, "the name of an attribute, with %0020 for a space"),
        ("(@User.%0041)", 7, "the name of an attribute, with %0020 for a space"),
        ("(@User.a == 0x10000000000000000)", 12, "a number of 64 bits"),
        ("(@User.a == {1 2})", 15, ", or }"),
        ("(@User.a == \"x)", 12, "a second \""),
    ] {
        let start = "D:(XA;;FX;;;WD;";
        let error = SecurityDescriptor::from_sddl(&format!("{start}{text})")).unwrap_err();
        let SddlError::Condition { position: at, expected: what, .. } = &error else {
            panic!("{text}: {error}")
        };
        assert_eq!((*at, *what), (start.len() + position, expected), "{text}");
    }
    for text in [
        r#"("a",TQ,0,1)"#,
        r#"("",TI,0,1)"#,
        r#"("a",TI,0x100,1)"#,
        r#"("a",TB,0,2)"#,
        r#"("a",TD,0,XX)"#,
        r#"("a",TX,0,)"#,
        r#"("a",TU,0,-1)"#,
        r#"("a",TS,0,b)"#,
        "(\"a\",TS,0,\"b\0\")",
        r#"("a%0000",TS,0,"b")"#,
    ] {
        let error = SecurityDescriptor::from_sddl(&format!("S:(RA;;;;;WD;{text})")).unwrap_err();
        assert!(matches!(error, SddlError::Condition { .. }), "{text}: {error}");
    }
}

/// Bytes that mean the same as a text, but differ from the text's bytes, stay bytes.
#[test]
fn bytes_that_no_text_gives_have_no_text() {
    let with = |extra: Vec<u8>, ace_type| {
        let body = AceBody::Plain { mask: 1, sid: Sid::EVERYONE, extra };
        let dacl = AclSlot::List(Acl::new(vec![Ace { ace_type, flags: 0, body }]));
        SecurityDescriptor { dacl, ..Default::default() }.to_sddl()
    };
    let callback = ace_types::ACCESS_ALLOWED_CALLBACK;
    let attribute = "61727478 f902000000 6100";
    for (bytes, reason) in [
        ("61727478", "nothing"),
        (&*format!("{attribute} 00000000 00"), "more padding than needed"),
        (&*format!("{attribute} {attribute} 00"), "two signatures"),
        (&*format!("{attribute} a0"), "an operand too few"),
        (&*format!("{attribute} f902000000 6200 0000"), "an operand too many"),
        (&*format!("{attribute} 01 0100000000000000 0302 80 00"), "an integer of eight bits"),
        (&*format!("{attribute} 04 0100000000000000 0202 80 00"), "a minus before a positive number"),
        (&*format!("{attribute} 04 0100000000000000 0309 80 00"), "an unknown base"),
        (&*format!("{attribute} 1002000000 2200 80 000000"), "a quote in a string"),
        (&*format!("{attribute} 1001000000 22 80 000000"), "half a unit"),
        (&*format!("{attribute} 10ffffffff 22 80 000000"), "more than there is"),
        (&*format!("{attribute} 5005000000 5000000000 80 00"), "a list in a list"),
        (&*format!("{attribute} f802000000 6200 80"), "a local attribute on the right"),
    ] {
        assert!(with(hex(bytes), callback).is_err(), "{reason}");
    }
    let claim = Claim { name: vec![97], flags: 0, values: Values::Int(vec![1]) }.to_bytes();
    assert!(with(claim.clone(), ace_types::SYSTEM_RESOURCE_ATTRIBUTE).is_ok());
    for length in 0..claim.len() {
        assert!(with(claim[..length].to_vec(), ace_types::SYSTEM_RESOURCE_ATTRIBUTE).is_err(), "{length}");
    }
    // Thousands of values, all the same long text: refused, since reading would copy it for each.
    let count = 8_000_u32;
    let mut values = Vec::new();
    for number in [16 + 4 * count, 3, 0, count] {
        values.extend(number.to_le_bytes());
    }
    (0..count).for_each(|_| values.extend((16 + 4 * count).to_le_bytes()));
    values.extend([b'a', 0].repeat(15_000));
    values.extend([0, 0]);
    assert!(Claim::parse(&values).is_none());
}

#[test]
fn more_than_an_ace_holds_is_refused_before_it_is_written() {
    for text in [
        format!("D:(XA;;FX;;;WD;(a == \"{}\"))", "x".repeat(40_000)),
        format!("S:(RA;;;;;WD;(\"a\",TX,0,{}))", "77".repeat(70_000)),
    ] {
        let error = SecurityDescriptor::from_sddl(&text).unwrap_err();
        assert!(
            matches!(error, SddlError::Condition { expected: "no more than an ACE holds", .. }),
            "{error}"
        );
    }
    let most = format!("D:(XA;;FX;;;WD;(a == \"{}\"))", "x".repeat(32_000));
    assert!(read(&most).to_sddl().is_ok());
}

#[test]
fn no_nesting_is_too_deep() {
    let deep = 20_000;
    let not = format!("({}(a){})", "!(".repeat(deep), ")".repeat(deep));
    assert_eq!(condition(&not).iter().filter(|&&byte| byte == NOT.code).count(), deep);
    assert_eq!(printed(&not).matches('!').count(), deep);
    let group = format!("{}a{}", "(".repeat(deep), ")".repeat(deep));
    assert_eq!(printed(&group), "(a)");
    let member = format!("(Member_of {}SID(BA){})", "(".repeat(deep), ")".repeat(deep));
    assert_eq!(printed(&member), "(Member_of SID(BA))");
    let open = "(".repeat(deep);
    assert!(SecurityDescriptor::from_sddl(&format!("D:(XA;;FX;;;WD;{open}")).is_err());
}

fn any_name() -> impl Strategy<Value = Vec<u16>> {
    vec(prop_oneof![1..=u16::MAX, 0x21..0x7F_u16], 1..6)
}

fn any_integer() -> impl Strategy<Value = Token> {
    let sign = prop_oneof![Just(Sign::Plus), Just(Sign::Minus), Just(Sign::None)];
    let base = prop_oneof![Just(Base::Octal), Just(Base::Decimal), Just(Base::Hexadecimal)];
    let value = prop_oneof![any::<i64>(), -9..9_i64, Just(i64::MIN), Just(i64::MAX)];
    (value, sign, base).prop_map(|(value, sign, base)| {
        let value = match (sign, base) {
            (Sign::Minus, _) if value > 0 => -value,
            (Sign::Plus, _) | (Sign::None, Base::Decimal) => value.checked_abs().unwrap_or(0),
            _ => value,
        };
        Token::Integer { value, sign, base }
    })
}

fn any_text() -> impl Strategy<Value = Vec<u16>> {
    "[^\"\0]{0,6}".prop_map(|text| text.encode_utf16().collect())
}

fn any_single() -> impl Strategy<Value = Token> {
    prop_oneof![
        any_integer(),
        any_text().prop_map(Token::Unicode),
        vec(any::<u8>(), 0..6).prop_map(Token::Octets),
        any_sid().prop_map(Token::Sid),
    ]
}

fn any_literal() -> impl Strategy<Value = Token> {
    prop_oneof![any_single(), vec(any_single(), 0..4).prop_map(Token::Composite)]
}

fn any_prefixed() -> impl Strategy<Value = Token> {
    let class = prop_oneof![Just(Class::User), Just(Class::Resource), Just(Class::Device)];
    (class, any_name()).prop_map(|(class, name)| Token::Attribute(class, name))
}

fn any_attribute() -> impl Strategy<Value = Token> {
    let local = "x[a-z:./0-9]{0,5}".prop_map(|name| name.encode_utf16().collect());
    prop_oneof![any_prefixed(), local.prop_map(|name| Token::Attribute(Class::Local, name))]
}

fn any_operator(kind: Kind) -> impl Strategy<Value = Token> {
    let of_kind: Vec<_> = OPERATORS.iter().filter(|operator| operator.kind == kind).collect();
    proptest::sample::select(of_kind).prop_map(Token::Operator)
}

fn any_term() -> impl Strategy<Value = Vec<Token>> {
    let right = prop_oneof![any_literal(), any_prefixed()];
    let three = |(left, right, operator)| vec![left, right, operator];
    prop_oneof![
        any_attribute().prop_map(|attribute| vec![attribute]),
        (any_attribute(), right, any_operator(Kind::Relation)).prop_map(three),
        (any_attribute(), any_operator(Kind::Exists)).prop_map(|(attribute, exists)| vec![attribute, exists]),
        (any_literal(), any_operator(Kind::Member)).prop_map(|(literal, member)| vec![literal, member]),
    ]
}

/// The bytes of a condition made from text.
pub(super) fn any_condition() -> impl Strategy<Value = Vec<u8>> {
    let expression = any_term().prop_recursive(5, 16, 2, |inner| {
        let logical = prop_oneof![Just(&AND), Just(&OR)];
        prop_oneof![
            inner.clone().prop_map(|tokens| [tokens, vec![Token::Operator(&NOT)]].concat()),
            (inner.clone(), inner, logical).prop_map(|(left, right, logical)| [
                left,
                right,
                vec![Token::Operator(logical)]
            ]
            .concat()),
        ]
    });
    expression.prop_map(|tokens| {
        let mut bytes = begin();
        tokens.iter().for_each(|token| token.write(&mut bytes));
        end(&mut bytes);
        bytes
    })
}

/// The bytes of an attribute made from text.
pub(super) fn any_claim() -> impl Strategy<Value = Vec<u8>> {
    let values = prop_oneof![
        vec(any::<i64>(), 0..4).prop_map(Values::Int),
        vec(any::<u64>(), 0..4).prop_map(Values::Uint),
        vec(any_text(), 0..4).prop_map(Values::String),
        vec(any_sid(), 0..4).prop_map(Values::Sid),
        vec(any::<bool>(), 0..4).prop_map(Values::Boolean),
        vec(vec(any::<u8>(), 1..6), 0..4).prop_map(Values::Octets),
    ];
    (any_name(), any::<u32>(), values)
        .prop_map(|(name, flags, values)| Claim { name, flags: flags & !0xFF00, values }.to_bytes())
}

proptest! {
    #[test]
    fn a_damaged_condition_has_its_own_text_or_none(
        bytes in prop_oneof![any_condition(), any_claim()],
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        is_claim: bool,
    ) {
        let mut bytes = bytes;
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let ace_type = match is_claim {
            true => ace_types::SYSTEM_RESOURCE_ATTRIBUTE,
            false => ace_types::ACCESS_ALLOWED_CALLBACK,
        };
        let body = AceBody::Plain { mask: 1, sid: Sid::EVERYONE, extra: bytes };
        let dacl = AclSlot::List(Acl::new(vec![Ace { ace_type, flags: 0, body }]));
        let descriptor = SecurityDescriptor { dacl, ..Default::default() };
        if let Ok(text) = descriptor.to_sddl() {
            prop_assert_eq!(SecurityDescriptor::from_sddl(&text), Ok(descriptor), "{}", text);
        }
    }

    #[test]
    fn any_condition_text_is_read_or_refused(
        text in "([!(){},;]|&&|==|@User.|a|%0020|Member_of|SID|BA|\"|#1|-1|Exists| |[^a]){0,30}",
    ) {
        for sddl in [format!("D:(XA;;FX;;;WD;({text}))"), format!("S:(RA;;;;;WD;(\"a\",TS,0,{text}))")] {
            if let Ok(descriptor) = SecurityDescriptor::from_sddl(&sddl) {
                let printed = descriptor.to_sddl().unwrap();
                prop_assert_eq!(SecurityDescriptor::from_sddl(&printed), Ok(descriptor), "{}", sddl);
            }
        }
    }
}
