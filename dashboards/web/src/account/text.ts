export const PASSWORD_HINT = '10文字以上で、英大文字・英小文字・数字・記号のうち3種類以上を使ってください。'
