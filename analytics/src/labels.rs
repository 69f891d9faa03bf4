//! What the columns of reports and views are called in Japanese.

use std::borrow::Cow;

/// The label of a column; the name itself where it has none.
pub(crate) fn label(name: &str) -> Cow<'static, str> {
    if let Some(found) = LABELS.iter().find(|(known, _)| *known == name) {
        return Cow::Borrowed(found.1);
    }
    let returns = [
        ("retention_", "リテンション率"),
        ("retained_users_", "リテンションユーザ数"),
        ("cohort_", "対象者数"),
        ("", "再利用"),
    ];
    for (prefix, label) in returns {
        if let Some(age) = name.strip_prefix(prefix).and_then(age) {
            return Cow::Owned(format!("{label}（{age}）"));
        }
    }
    Cow::Owned(name.to_owned())
}

/// `d7` is 7日後, `m3` is 3か月後.
fn age(text: &str) -> Option<String> {
    let n: u8 = text.get(1..)?.parse().ok()?;
    match text.as_bytes().first()? {
        b'd' => Some(format!("{n}日後")),
        b'm' => Some(format!("{n}か月後")),
        _ => None,
    }
}

const LABELS: &[(&str, &str)] = &[
    // dimensions
    ("day", "日"),
    ("week", "週（月曜始まり）"),
    ("month", "月"),
    ("programme_code", "対象事業"),
    ("facility_id", "事業所"),
    ("ward_code", "行政区"),
    ("class_age", "クラス年齢"),
    ("coupon_set_id", "クーポンセット"),
    ("coupon_kind", "クーポンの種類"),
    ("platform", "利用環境"),
    ("app_version", "アプリの版"),
    ("role", "ロール"),
    ("screen_id", "画面"),
    ("error_kind", "エラーの種類"),
    ("message_type", "通知種別"),
    ("category", "通知の分類"),
    ("channel", "通知手段"),
    ("broadcast_id", "一斉配信"),
    ("hour", "時間帯（時）"),
    // R01
    ("coupon_registrations", "クーポン利用者登録件数"),
    ("coupon_registrations_revoked", "うち承認取消件数"),
    ("coupon_guardians", "登録利用者数"),
    ("registered_end", "期末登録児童数"),
    ("balance_start_yen", "期首残高（円）"),
    ("balance_start_units", "期首残高（時間）"),
    ("distributed_yen", "クーポン配付金額（円）"),
    ("distributed_units", "クーポン配付時間数"),
    ("adjusted_yen", "追加・削除（円）"),
    ("adjusted_units", "追加・削除（時間）"),
    ("service_uses", "利用サービス件数"),
    ("used_yen", "クーポン利用実績（円）"),
    ("used_units", "クーポン利用実績（時間）"),
    ("of_which_cancel_fee_yen", "うちキャンセル料（円）"),
    ("users", "利用者数（実人数）"),
    ("expired_yen", "期限切れ（円）"),
    ("expired_units", "期限切れ（時間）"),
    ("revoked_yen", "取消（円）"),
    ("revoked_units", "取消（時間）"),
    ("balance_end_yen", "クーポン利用残高（円）"),
    ("balance_end_units", "クーポン利用残高（時間）"),
    ("usage_rate_yen", "利用率（円、％）"),
    ("usage_rate_units", "利用率（時間、％）"),
    // R01 rows
    ("line", "区分"),
    ("event_id", "イベントID"),
    ("occurred_at", "発生日時"),
    ("jst_date", "日付"),
    ("event_type", "イベント種別"),
    ("coupon_id", "クーポンID"),
    ("child_key", "児童キー（仮名）"),
    ("guardian_key", "利用者キー（仮名）"),
    ("application_id", "申請ID"),
    ("use_id", "クーポン利用ID"),
    ("purpose", "目的"),
    ("programme", "対象事業"),
    ("facility", "事業所"),
    ("amount_yen", "金額（円）"),
    ("amount_units", "時間数"),
    ("lot", "配付分"),
    ("expiry", "使用期限"),
    ("balance_after_yen", "明細後の残高（円）"),
    ("balance_after_units", "明細後の残時間"),
    // R04
    ("survey_id", "アンケートID"),
    ("title", "アンケート名"),
    ("item", "項目"),
    ("question_no", "設問番号"),
    ("question", "設問"),
    ("question_id", "設問ID"),
    ("question_kind", "設問の種類"),
    ("option_no", "選択肢番号"),
    ("option", "選択肢"),
    ("count", "件数"),
    ("share", "割合（％）"),
    ("base", "母数"),
    ("value", "値"),
    ("dimension", "集計軸"),
    ("dimension_value", "集計軸の値"),
    ("masked", "秘匿"),
    ("target_key", "対象者キー（仮名）"),
    ("requested_at", "依頼日時"),
    ("delivered_at", "到達日時"),
    ("answer_no", "回答番号"),
    ("answered_at", "回答日時"),
    ("number", "数値"),
    ("text_length", "自由記述の文字数"),
    ("programmes", "利用した事業"),
    ("facilities", "利用した事業所"),
    // R05
    ("dau", "アクティブユーザ数（日）"),
    ("wau", "アクティブユーザ数（週）"),
    ("mau", "アクティブユーザ数（月）"),
    ("dau_incl_anonymous", "アクティブ数（日、ログイン前を含む）"),
    ("wau_incl_anonymous", "アクティブ数（週、ログイン前を含む）"),
    ("mau_incl_anonymous", "アクティブ数（月、ログイン前を含む）"),
    ("active_7d", "直近7日のアクティブユーザ数"),
    ("active_30d", "直近30日のアクティブユーザ数"),
    ("active_users", "期間内のアクティブユーザ数"),
    ("dau_mean", "日次アクティブユーザ数の平均"),
    ("stickiness", "定着率（日次平均÷月、％）"),
    ("sessions", "セッション数"),
    ("avg_session_sec", "平均セッション時間（秒）"),
    ("time_per_user_min", "一人あたり利用時間（分／月）"),
    ("screen_views", "画面・ページビュー数"),
    ("views_per_session", "1セッションの画面数"),
    ("cohort_users", "初回利用者数"),
    ("errors", "エラー件数"),
    ("sessions_with_error", "エラーのあったセッション数"),
    ("error_rate_sessions", "エラー率（％）"),
    ("crashed_users", "異常終了のあった利用者数"),
    ("crash_free_users", "異常終了のない利用者率（％）"),
    ("errors_per_1000_views", "画面1,000表示あたりのエラー"),
    ("first_opens", "ダウンロード相当数"),
    ("push_reachable", "通知許可端末数"),
    ("push_opened", "プッシュ開封数"),
    ("push_delivered", "プッシュ到達数"),
    ("push_open_rate", "プッシュ開封率（％）"),
    ("consenting", "利用状況の収集に同意した人数"),
    ("registered", "登録者数"),
    ("coverage", "同意率（％）"),
    // R05 rows
    ("in_period", "期間内"),
    ("session_id", "セッションID"),
    ("device_key", "端末キー（仮名）"),
    ("started_at", "開始日時"),
    ("ended_at", "終了日時"),
    ("duration_ms", "時間（ミリ秒）"),
    ("screens", "画面数"),
    ("fatal", "異常終了"),
    ("previous_screen_id", "前の画面"),
    ("dwell_ms", "表示時間（ミリ秒）"),
    ("code", "エラーコード"),
    ("first_day", "初回利用日"),
    ("step", "段階"),
    ("message_id", "通知ID"),
    ("granted", "許可"),
    ("person_key", "利用者キー（仮名）"),
    // R08
    ("claim_id", "請求ID"),
    ("uses", "利用件数"),
    ("children", "利用児童数（実人数）"),
    ("gross_yen", "利用額（円）"),
    ("reversed_yen", "取消額（円）"),
    ("net_yen", "請求額（円）"),
    ("units", "時間数"),
    ("cancel_fee_yen", "うちキャンセル料（円）"),
    ("transfer_file_id", "口座振替データID"),
    ("state", "状態"),
    ("submitted_at", "提出日時"),
    ("received_at", "受付日時"),
    ("forwarded_at", "市への送付日時"),
    ("transfer_requested_at", "振替依頼日時"),
    ("transferred_on", "振替日"),
    ("result_code", "振替結果コード"),
    ("computed_event_id", "計算したイベントID"),
    // R13
    ("created", "作成"),
    ("suppressed", "送信対象外"),
    ("suppressed_opt_out", "うち受信しない設定"),
    ("suppressed_duplicate", "重複のため作成せず"),
    ("suppressed_other", "うちその他"),
    ("sent", "送信"),
    ("accepted", "配信元の受付"),
    ("delivered", "到達"),
    ("delivered_means", "到達の意味"),
    ("expired", "期限切れ"),
    ("superseded", "差し替え"),
    ("failed", "失敗"),
    ("delivery_rate", "到達率（％）"),
    ("opened", "開封"),
    ("open_rate", "開封率（％）"),
    ("p50_latency_ms", "所要時間の中央値（ミリ秒）"),
    ("p95_latency_ms", "所要時間の95％点（ミリ秒）"),
    ("p99_latency_ms", "所要時間の99％点（ミリ秒）"),
    ("within_2s_share", "即時通知のうち2秒以内の引渡し（％）"),
    ("escalated", "通知手段の切替え"),
    ("paper_posted", "郵送"),
    ("paper_returned", "返戻"),
    ("unreached_mandatory", "24時間届いていない必須通知"),
    ("live_sessions_peak", "同時接続の最大"),
    ("resume_gaps", "再接続時に送り直した数"),
    // R13 rows
    ("message_class", "区分"),
    ("recipient_key", "受信者キー（仮名）"),
    ("suppressed_reason", "送信対象外の理由"),
    ("failed_code", "失敗の理由"),
    ("posted", "発送"),
    ("returned", "返戻"),
    ("kind", "種類"),
    ("released_at", "承認日時"),
    ("first_sent_at", "最初の送信"),
    ("last_sent_at", "最後の送信"),
    ("targets", "対象者数"),
    ("duration_s", "所要時間（秒）"),
    // R17
    ("kpi_id", "指標"),
    ("indicator", "指標名"),
    ("measure", "測定値"),
    ("cumulative", "累計"),
    ("target", "目標値"),
    ("attainment", "達成率（％）"),
    ("counted_id", "数えたもののID"),
    ("detail", "内訳"),
    // R18
    ("at", "日時"),
    ("actor_key", "操作した人のキー（仮名）"),
    ("action", "操作"),
    ("object", "対象"),
    ("object_id", "対象のID"),
    ("rows", "行数"),
    ("accesses", "操作の件数"),
    ("actors", "操作した人数"),
    // provenance
    ("period_from", "対象期間（開始）"),
    ("period_to", "対象期間（終了）"),
    ("snapshot_id", "スナップショットID"),
    ("created_at", "作成日時"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_columns_are_named_by_their_age() {
        assert_eq!(label("retention_d7"), "リテンション率（7日後）");
        assert_eq!(label("cohort_m11"), "対象者数（11か月後）");
        assert_eq!(label("m2"), "再利用（2か月後）");
        assert_eq!(label("cohort_users"), "初回利用者数");
        assert_eq!(label("min"), "min");
    }
}
