import type { Route } from '$lib/router/match'

/** Pages for people who are not signed in. */
export const openRoutes: Route[] = [
  { pattern: '/', screen: 'GD02', title: 'ようこそ', load: () => import('./WelcomePage.svelte') },
  { pattern: '/login', screen: 'GD02', title: 'ログイン', load: () => import('../account/LoginPage.svelte') },
  { pattern: '/register', screen: 'GD01', title: '利用者登録', load: () => import('./register/RegisterPage.svelte') },
  { pattern: '/register/confirm', screen: 'GD01', title: '登録の確認', load: () => import('./register/RegisterConfirmPage.svelte') },
  { pattern: '/password-reset', screen: 'GD02', title: 'パスワードの再設定', load: () => import('../account/PasswordResetPage.svelte') },
  { pattern: '/password-reset/confirm', screen: 'GD02', title: '新しいパスワードの設定', load: () => import('../account/PasswordResetConfirmPage.svelte') },
  { pattern: '/email-change/confirm', screen: 'GD23', title: 'メールアドレスの変更', load: () => import('./settings/EmailConfirmPage.svelte') },
]

/** Pages of a signed-in guardian. */
export const routes: Route[] = [
  { pattern: '/', screen: 'GD03', title: 'ホーム', load: () => import('./home/HomePage.svelte') },
  { pattern: '/coupons', screen: 'GD04', title: 'クーポン', load: () => import('./coupon/CouponsPage.svelte') },
  { pattern: '/coupons/:couponId', screen: 'GD04', title: 'クーポンの明細', load: () => import('./coupon/CouponPage.svelte') },
  { pattern: '/history', screen: 'GD16', title: '利用履歴', load: () => import('./coupon/HistoryPage.svelte') },
  { pattern: '/pay', screen: 'GD15', title: '支払い', load: () => import('./pay/PayPage.svelte') },
  { pattern: '/apply', screen: 'GD05', title: 'クーポン受給申請', load: () => import('./application/ApplyPage.svelte') },
  { pattern: '/applications', screen: 'GD06', title: '申請状況', load: () => import('./application/ApplicationsPage.svelte') },
  { pattern: '/applications/:applicationId', screen: 'GD06', title: '申請の内容', load: () => import('./application/ApplicationPage.svelte') },
  { pattern: '/children', screen: 'GD22', title: '児童', load: () => import('./child/ChildrenPage.svelte') },
  { pattern: '/children/:childId/qr', screen: 'GD22', title: '児童用二次元コード', load: () => import('./child/ChildQrPage.svelte') },
  { pattern: '/inbox', screen: 'GD18', title: '受信箱', load: () => import('./inbox/InboxPage.svelte') },
  { pattern: '/notices', screen: 'GD03', title: 'お知らせ', load: () => import('./home/NoticesPage.svelte') },
  { pattern: '/surveys', screen: 'GD19', title: 'アンケート', load: () => import('./survey/SurveysPage.svelte') },
  { pattern: '/surveys/:surveyId', screen: 'GD19', title: 'アンケートの回答', load: () => import('./survey/AnswerPage.svelte') },
  { pattern: '/menu', screen: 'GD03', title: 'メニュー', load: () => import('./home/MenuPage.svelte') },
  { pattern: '/settings', screen: 'GD23', title: '設定', load: () => import('./settings/SettingsPage.svelte') },
  { pattern: '/email-change/confirm', screen: 'GD23', title: 'メールアドレスの変更', load: () => import('./settings/EmailConfirmPage.svelte') },
]
