import { mount } from 'svelte'
import './app.css'
import App from './App.svelte'

const target = document.getElementById('app')
if (!target) throw new Error('index.html has no #app')
mount(App, { target })

if ('serviceWorker' in navigator && import.meta.env.PROD && !location.pathname.startsWith('/staff')) {
  window.addEventListener('load', () => {
    // Without a service worker the app works the same, only not offline.
    navigator.serviceWorker.register('/sw.js').catch(() => undefined)
  })
}
