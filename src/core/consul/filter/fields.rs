//! What may be asked of the rows of each endpoint: its fields, by the names that stand in its
//! JSON, and what each may be compared with.
//!
//! Indexes are no fields, as in Consul. A field that Consul has and this dialect never fills is
//! left out: a selector for it is refused rather than never true.

use super::Operator;

/// What stands at a selector.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A list of texts.
    Texts,
    /// A map with any names, and what stands at each.
    Map(&'static Self),
    /// Fields with these names.
    Fields(&'static [(&'static str, Self)]),
    /// A list of rows with these fields; what is asked of one holds if any of them has it.
    Rows(&'static [(&'static str, Self)]),
}

impl Shape {
    /// What stands one name further.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::Fields(fields) | Self::Rows(fields) => {
                fields.iter().find(|(have, _)| *have == name).map(|(_, shape)| *shape)
            }
            Self::Map(of) => Some(*of),
            Self::Text | Self::Number | Self::Flag | Self::Texts => None,
        }
    }

    /// May it be compared so?
    pub(super) fn takes(self, operator: Operator) -> bool {
        let plain = operator.plain().0;
        match self {
            Self::Text => plain != Operator::IsEmpty,
            Self::Number | Self::Flag => plain == Operator::Equal,
            Self::Texts | Self::Map(_) => matches!(plain, Operator::In | Operator::IsEmpty),
            Self::Rows(_) => plain == Operator::IsEmpty,
            Self::Fields(_) => false,
        }
    }
}

const TEXTS_BY_NAME: Shape = Shape::Map(&Shape::Text);

const NODE_FIELDS: &[(&str, Shape)] = &[
    ("ID", Shape::Text),
    ("Node", Shape::Text),
    ("Address", Shape::Text),
    ("Datacenter", Shape::Text),
    ("TaggedAddresses", TEXTS_BY_NAME),
    ("Meta", TEXTS_BY_NAME),
];

const WEIGHTS: Shape = Shape::Fields(&[("Passing", Shape::Number), ("Warning", Shape::Number)]);

const SERVICE_FIELDS: &[(&str, Shape)] = &[
    ("ID", Shape::Text),
    ("Service", Shape::Text),
    ("Tags", Shape::Texts),
    ("Address", Shape::Text),
    ("Meta", TEXTS_BY_NAME),
    ("Port", Shape::Number),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Shape::Flag),
];

const CHECK_FIELDS: &[(&str, Shape)] = &[
    ("Node", Shape::Text),
    ("CheckID", Shape::Text),
    ("Name", Shape::Text),
    ("Status", Shape::Text),
    ("Notes", Shape::Text),
    ("Output", Shape::Text),
    ("ServiceID", Shape::Text),
    ("ServiceName", Shape::Text),
    ("ServiceTags", Shape::Texts),
    ("Type", Shape::Text),
    ("Interval", Shape::Text),
    ("Timeout", Shape::Text),
    ("ExposedPort", Shape::Number),
];

/// `catalog/nodes`.
pub const NODE: Shape = Shape::Fields(NODE_FIELDS);

/// `agent/services`, and the services of `catalog/node`.
pub const SERVICE: Shape = Shape::Fields(SERVICE_FIELDS);

/// `health/checks`, `health/node`, `health/state`, `agent/checks`.
pub const CHECK: Shape = Shape::Fields(CHECK_FIELDS);

/// `health/service`.
pub const SERVICE_ENTRY: Shape =
    Shape::Fields(&[("Node", NODE), ("Service", SERVICE), ("Checks", Shape::Rows(CHECK_FIELDS))]);

/// `catalog/service`, and the entries that `catalog/services` is made of.
pub const FLAT_ENTRY: Shape = Shape::Fields(&[
    ("ID", Shape::Text),
    ("Node", Shape::Text),
    ("Address", Shape::Text),
    ("Datacenter", Shape::Text),
    ("TaggedAddresses", TEXTS_BY_NAME),
    ("NodeMeta", TEXTS_BY_NAME),
    ("ServiceKind", Shape::Text),
    ("ServiceID", Shape::Text),
    ("ServiceName", Shape::Text),
    ("ServiceTags", Shape::Texts),
    ("ServiceAddress", Shape::Text),
    ("ServiceTaggedAddresses", TEXTS_BY_NAME),
    ("ServiceWeights", WEIGHTS),
    ("ServiceMeta", TEXTS_BY_NAME),
    ("ServicePort", Shape::Number),
    ("ServiceEnableTagOverride", Shape::Flag),
]);

/// `agent/members`.
pub const MEMBER: Shape = Shape::Fields(&[
    ("Name", Shape::Text),
    ("Addr", Shape::Text),
    ("Port", Shape::Number),
    ("Tags", TEXTS_BY_NAME),
    ("Status", Shape::Number),
]);
