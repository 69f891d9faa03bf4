//! Places and programmes of the demo.

use todoke_domain::MunicipalityCode;
use todoke_store::municipality::{Municipality, Programme};

/// A made-up municipality.
#[derive(Debug, Clone)]
pub struct City {
    /// Six digits, none of a real place.
    pub code: MunicipalityCode,
    /// Name.
    pub name: &'static str,
    /// Wards.
    pub wards: Vec<String>,
}

/// The demo's city and its small neighbour, which proves the walls.
pub fn cities() -> Vec<City> {
    let city = |code: &str, name, wards: &[&str]| {
        let code = code.parse().ok()?;
        Some(City { code, name, wards: wards.iter().map(|ward| (*ward).to_owned()).collect() })
    };
    let wards = ["990011", "990012", "990013", "990014"];
    [city("990001", "みらい市", &wards), city("990002", "となり町", &["990002"])].into_iter().flatten().collect()
}

/// The prefecture above both.
pub(super) fn authority() -> anyhow::Result<Municipality> {
    Ok(Municipality { municipality_code: "990000".parse()?, name: "ひかり県".to_owned() })
}

/// Name of a ward of the demo, or its code.
pub fn ward_name(code: &str) -> &str {
    match code {
        "990011" => "北区",
        "990012" => "中央区",
        "990013" => "東区",
        "990014" => "港区",
        other => other,
    }
}

/// The eight programmes of the glossary.
pub fn programmes() -> Vec<Programme> {
    [
        ("temp_care_public", "一時預かり事業（公）"),
        ("temp_care_private", "一時預かり事業（民）"),
        ("sick_care_public", "病児・病後児保育事業（公）"),
        ("sick_care_private", "病児・病後児保育事業（民）"),
        ("short_stay", "こどものショートステイ事業"),
        ("postpartum_care", "産後ケア"),
        ("childrearing_helper", "子育て応援ヘルパー派遣事業"),
        ("open_nursery", "こども誰でも通園制度"),
    ]
    .into_iter()
    .map(|(code, name)| Programme { programme_code: code.to_owned(), name: name.to_owned(), coupon_enabled: true })
    .collect()
}

/// What facilities of a programme are called.
pub fn facility_kind(programme: &str) -> &'static str {
    match programme {
        "temp_care_public" => "市立保育所",
        "temp_care_private" => "保育園",
        "sick_care_public" => "市立病児保育室",
        "sick_care_private" => "病児保育ルーム",
        "short_stay" => "こどもの家",
        "postpartum_care" => "産後ケアセンター",
        "childrearing_helper" => "ヘルパーステーション",
        _ => "こども園",
    }
}

/// Names that facilities bear.
pub const FACILITY_NAMES: [&str; 20] = [
    "ひまわり",
    "さくら",
    "たんぽぽ",
    "あおぞら",
    "にじいろ",
    "こばと",
    "わかば",
    "つくし",
    "すみれ",
    "みどり",
    "ほし",
    "なのはな",
    "こすもす",
    "どんぐり",
    "ゆりかご",
    "はなみずき",
    "めぐみ",
    "のぞみ",
    "やまびこ",
    "うみかぜ",
];
