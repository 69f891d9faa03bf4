import { fileURLToPath } from 'node:url'
import { readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { defineConfig } from 'vitest/config'
import type { Plugin } from 'vite'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import tailwindcss from '@tailwindcss/vite'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/**
 * Writes `sw.js` with the list of files a guardian's first screens need: the entry, the guardian group and
 * everything these import statically. Staff screens, charts and editors are never cached on a parent's phone.
 */
function guardianServiceWorker(): Plugin {
  return {
    name: 'todoke-service-worker',
    apply: 'build',
    generateBundle(_options, bundle) {
      const shell = new Set<string>(['/', '/manifest.webmanifest'])
      const add = (name: string) => {
        const chunk = bundle[name]
        if (!chunk || chunk.type !== 'chunk' || shell.has(`/${name}`)) return
        shell.add(`/${name}`)
        for (const css of chunk.viteMetadata?.importedCss ?? []) shell.add(`/${css}`)
        chunk.imports.forEach(add)
      }
      const entries = Object.values(bundle).filter(
        (file) => file.type === 'chunk' && (file.isEntry || file.moduleIds.some((id) => /\/src\/guardian\//.test(id))),
      )
      entries.forEach((file) => add(file.fileName))
      const files = [...shell].sort()
      const version = createHash('sha256').update(files.join('\n')).digest('hex').slice(0, 12)
      const source = readFileSync(at('./src/sw/worker.js'), 'utf8')
        .replace("'__VERSION__'", JSON.stringify(version))
        .replace("['__SHELL__']", JSON.stringify(files))
      this.emitFile({ type: 'asset', fileName: 'sw.js', source })
    },
  }
}

export default defineConfig({
  plugins: [svelte(), tailwindcss(), guardianServiceWorker()],
  resolve: { alias: { $lib: at('./src/lib'), $src: at('./src') } },
  define: { __APP_VERSION__: JSON.stringify(process.env.npm_package_version ?? '0') },
  build: {
    // Inlined assets would need `data:` in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: {
        codeSplitting: {
          // One file per audience and one for what all share: a phone asks for few files, and for nobody else's.
          groups: [
            { name: 'base', test: /\/src\/lib\/(?!charts\/)|\/src\/App\.svelte|node_modules\/(svelte|esm-env|clsx|centrifuge|events)\// },
            { name: 'household', test: /\/src\/household\// },
            { name: 'account', test: /\/src\/account\// },
            { name: 'guardian', test: /\/src\/guardian\// },
            { name: 'staff', test: /\/src\/staff\// },
            { name: 'facility', test: /\/src\/facility\// },
            { name: 'register', test: /\/src\/register\// },
            { name: 'operator', test: /\/src\/operator\// },
            { name: 'city', test: /\/src\/city\// },
            { name: 'survey', test: /\/src\/survey\// },
            { name: 'report', test: /\/src\/report\// },
            { name: 'analyst', test: /\/src\/analyst\/(?!editor)/ },
          ],
        },
      },
    },
  },
  server: {
    proxy: {
      '/v1': 'http://127.0.0.1:8787',
      '/connection': { target: 'ws://127.0.0.1:8787', ws: true },
    },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
})
