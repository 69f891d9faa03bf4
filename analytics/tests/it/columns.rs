//! The columns of every report and row set, pinned: files people keep must not change shape unseen.

use std::fmt::Write as _;

use todoke_analytics::{ReportId, ReportRequest, RowsKind, catalogue};

use crate::city::{City, Fixture, OSAKA, request};

#[tokio::test]
async fn columns_of_all_reports_and_row_sets() {
    let lake = Fixture::new(&[&City::new(OSAKA)]).await;
    let mut text = String::new();
    for doc in catalogue() {
        let report: ReportId = doc.report_id.parse().unwrap();
        let variants: &[&str] = match report {
            ReportId::StatisticsSimple => {
                &["", "month,programme_code,facility_id,ward_code,class_age,coupon_set_id,coupon_kind"]
            }
            ReportId::SurveyAggregate => &["", "ward_code,class_age,programme_code,facility_id"],
            ReportId::AppUsage => {
                &["", "day,platform,app_version,role", "week,screen_id,error_kind", "month,message_type"]
            }
            ReportId::CouponClaim => &[""],
            ReportId::MessageDelivery => &["", "day,hour,message_type,category,channel,facility_id,broadcast_id"],
            ReportId::Kpi => &[""],
            ReportId::AccessAudit => &["", "day,role", "month"],
        };
        for by in variants {
            let table = lake.report(report, "2026-06-01", "2026-06-02", by).await.unwrap();
            writeln!(text, "\n{report} by [{by}]").unwrap();
            for column in &table.columns {
                writeln!(text, "  {} {}", column.name, column.label).unwrap();
            }
        }
        for set in &doc.row_sets {
            let rows = RowsKind::Underlying(Some(set.name.to_owned()));
            let table = lake
                .engine
                .report(&ReportRequest { rows, ..request(report, "2026-06-01", "2026-06-02", "") })
                .await
                .unwrap();
            writeln!(text, "\n{report} rows {}", set.name).unwrap();
            for column in &table.columns {
                writeln!(text, "  {} {}", column.name, column.label).unwrap();
            }
        }
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn bad_requests_are_told_apart() {
    let lake = Fixture::new(&[]).await;
    use todoke_analytics::ReportError as E;
    let ask = |from: &str, to: &str, by: &str| request(ReportId::AppUsage, from, to, by);
    let error = |request: ReportRequest| {
        let engine = lake.engine.clone();
        async move { engine.report(&request).await.unwrap_err() }
    };
    assert!(matches!(error(ask("2026-06-02", "2026-06-01", "")).await, E::BadPeriod));
    assert!(matches!(error(ask("2016-06-02", "2027-06-01", "")).await, E::BadPeriod));
    assert!(matches!(error(ask("2026-06-01", "2026-06-02", "day,month")).await, E::DimensionNotOffered("month")));
    assert!(matches!(error(ask("2026-06-01", "2026-06-02", "ward_code")).await, E::DimensionNotOffered("ward_code")));
    let alien =
        ReportRequest { rows: RowsKind::Underlying(Some("people".to_owned())), ..ask("2026-06-01", "2026-06-02", "") };
    assert!(matches!(error(alien).await, E::UnknownRows(_)));
    assert!(matches!("nope".parse::<ReportId>(), Err(E::UnknownReport(_))));
}
