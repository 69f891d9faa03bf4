/** What an application without child QR needs. */
export const APPLICATION_DOCUMENTS = [
  { kind: 'guardian_identity', hint: '運転免許証、マイナンバーカード（表面）、パスポートなど。文字がはっきり読めるように撮ってください。' },
  { kind: 'child_identity', hint: '母子健康手帳の出生届出済証明のページ、住民票の写しなど。' },
] as const
