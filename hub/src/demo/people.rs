//! Made-up people.

use jiff::civil::Date;
use rand::{Rng, RngExt};
use todoke_domain::time::add_days;
use todoke_workflow::account::{ChildInput, Registration};

const SURNAMES: [(&str, &str); 24] = [
    ("佐藤", "サトウ"),
    ("鈴木", "スズキ"),
    ("高橋", "タカハシ"),
    ("田中", "タナカ"),
    ("伊藤", "イトウ"),
    ("渡辺", "ワタナベ"),
    ("山本", "ヤマモト"),
    ("中村", "ナカムラ"),
    ("小林", "コバヤシ"),
    ("加藤", "カトウ"),
    ("吉田", "ヨシダ"),
    ("山田", "ヤマダ"),
    ("佐々木", "ササキ"),
    ("山口", "ヤマグチ"),
    ("松本", "マツモト"),
    ("井上", "イノウエ"),
    ("木村", "キムラ"),
    ("林", "ハヤシ"),
    ("清水", "シミズ"),
    ("山崎", "ヤマザキ"),
    ("森", "モリ"),
    ("池田", "イケダ"),
    ("橋本", "ハシモト"),
    ("阿部", "アベ"),
];
const PARENTS: [(&str, &str); 16] = [
    ("花子", "ハナコ"),
    ("美咲", "ミサキ"),
    ("裕子", "ユウコ"),
    ("恵", "メグミ"),
    ("彩", "アヤ"),
    ("真由美", "マユミ"),
    ("直子", "ナオコ"),
    ("由美", "ユミ"),
    ("健太", "ケンタ"),
    ("大輔", "ダイスケ"),
    ("誠", "マコト"),
    ("拓也", "タクヤ"),
    ("翔太", "ショウタ"),
    ("亮", "リョウ"),
    ("智子", "トモコ"),
    ("香織", "カオリ"),
];
const CHILDREN: [(&str, &str, &str); 20] = [
    ("陽葵", "ヒマリ", "female"),
    ("凛", "リン", "female"),
    ("紬", "ツムギ", "female"),
    ("結菜", "ユイナ", "female"),
    ("芽依", "メイ", "female"),
    ("咲良", "サクラ", "female"),
    ("莉子", "リコ", "female"),
    ("葵", "アオイ", "female"),
    ("澪", "ミオ", "female"),
    ("心春", "コハル", "female"),
    ("蓮", "レン", "male"),
    ("湊", "ミナト", "male"),
    ("樹", "イツキ", "male"),
    ("陽翔", "ハルト", "male"),
    ("律", "リツ", "male"),
    ("蒼", "アオ", "male"),
    ("朝陽", "アサヒ", "male"),
    ("暖", "ダン", "male"),
    ("悠真", "ユウマ", "male"),
    ("颯", "ハヤテ", "male"),
];

fn pick<T: Copy>(rng: &mut impl Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// A household that registers on `today`, with one or two children aged 0 to 2.
pub(super) fn household(
    rng: &mut impl Rng,
    serial: usize,
    domain: &str,
    wards: &[String],
    today: Date,
) -> Registration {
    let (surname, surname_kana) = pick(rng, &SURNAMES);
    let (given, given_kana) = pick(rng, &PARENTS);
    let n_children = if rng.random_range(0..10) < 3 { 2 } else { 1 };
    let children = (0..n_children)
        .map(|_| {
            let (name, kana, sex) = pick(rng, &CHILDREN);
            ChildInput {
                name: format!("{surname} {name}"),
                name_kana: format!("{surname_kana} {kana}"),
                sex: sex.to_owned(),
                birth_date: add_days(today, -rng.random_range(30..700)).to_string(),
                child_qr: None,
            }
        })
        .collect();
    let block = rng.random_range(1..9);
    let lot = rng.random_range(1..30);
    Registration {
        email: format!("family{serial}@{domain}"),
        password: String::new(),
        name: format!("{surname} {given}"),
        name_kana: format!("{surname_kana} {given_kana}"),
        sex: None,
        birth_date: Some(add_days(today, -rng.random_range(8_000..15_500)).to_string()),
        postal_code: format!("990-{:04}", rng.random_range(0..10_000)),
        address: format!("みどり町{block}丁目{lot}番"),
        ward_code: Some(wards[rng.random_range(0..wards.len())].clone()),
        phone: format!("090-{:04}-{:04}", rng.random_range(0..10_000), rng.random_range(0..10_000)),
        contact_channel: Some(if rng.random_range(0..20) == 0 || serial % 20 == 7 { "both" } else { "app" }.to_owned()),
        language: None,
        children,
        terms: true,
        privacy: true,
        // The first one's account is shown to whoever tries the demo.
        usage_analytics: rng.random_range(0..100) < 78 || serial == 1,
    }
}
