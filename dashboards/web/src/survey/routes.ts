import type { Route } from '$lib/router/match'

/** Survey screens of a workspace: the operator and the city have the same. */
export const surveyRoutes = (base: string, screen: string): Route[] => [
  { pattern: `${base}/surveys`, screen, title: 'アンケート', load: () => import('./SurveysPage.svelte') },
  { pattern: `${base}/surveys/new`, screen, title: 'アンケートの作成', load: () => import('./NewSurveyPage.svelte') },
  { pattern: `${base}/surveys/:surveyId`, screen, title: 'アンケート', load: () => import('./SurveyPage.svelte') },
]
