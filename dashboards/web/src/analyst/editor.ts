import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete'
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands'
import { PostgreSQL, sql } from '@codemirror/lang-sql'
import { bracketMatching, HighlightStyle, syntaxHighlighting } from '@codemirror/language'
import { Compartment, EditorState, type Extension } from '@codemirror/state'
import { EditorView, highlightActiveLine, keymap, lineNumbers, tooltips } from '@codemirror/view'
import { tags } from '@lezer/highlight'
import type { SqlTable } from '$lib/api/types'

const look = EditorView.theme({
  // Not on '&' alone: the layer that holds the completions carries the theme's class too.
  '&.cm-editor': { fontSize: '15px', backgroundColor: '#fff', height: '100%' },
  '.cm-scroller': { overflow: 'auto' },
  '.cm-content': { fontFamily: 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace', padding: '12px 0' },
  '.cm-gutters': { backgroundColor: '#f5f8fc', border: 'none', color: '#666' },
  '.cm-activeLine': { backgroundColor: '#f0f9ff' },
  '&.cm-focused': { outline: '4px solid #000', outlineOffset: '2px' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: '#0017c1', color: '#fff' },
})

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: '#0017c1', fontWeight: '700' },
  { tag: [tags.string, tags.special(tags.string)], color: '#197a4b' },
  { tag: tags.number, color: '#8b3200' },
  { tag: tags.comment, color: '#666666' },
  { tag: [tags.typeName, tags.standard(tags.name)], color: '#5109ad' },
])

/** Keywords come after names: the dialect knows hundreds that nobody types here. */
const KEYWORD_BOOST = -60

/** Tables, and the columns of the tables named in the text (of all tables, while none is named). */
function namesOf(tables: SqlTable[]) {
  return (context: CompletionContext): CompletionResult | null => {
    const word = context.matchBefore(/[\w]+/)
    if (!word && !context.explicit) return null
    const from = word?.from ?? context.pos
    if (context.state.sliceDoc(from - 1, from) === '.') return null
    const text = context.state.doc.toString()
    const named = tables.filter((table) => new RegExp(`\\b${table.name}\\b`, 'i').test(text))
    const columns = new Map((named.length > 0 ? named : tables).flatMap((table) => table.columns.map((column) => [column.name, column] as const)))
    return {
      from,
      validFor: /^\w*$/,
      options: [
        ...[...columns.values()].map((column) => ({ label: column.name, type: 'property', detail: column.type, boost: 2, ...(column.description ? { info: column.description } : {}) })),
        ...tables.map((table) => ({ label: table.name, type: 'type', boost: 1, ...(table.description ? { info: table.description } : {}) })),
      ],
    }
  }
}

/** An SQL editor that knows the tables once they are told. */
export interface SqlEditor {
  text(): string
  setText(text: string): void
  setTables(tables: SqlTable[]): void
  insert(text: string): void
  destroy(): void
}

/**
 * Makes the editor inside a shadow root: there its styles are adopted style sheets, which a strict content
 * security policy allows, while in the document they would be inline styles, which it does not.
 */
export function createEditor(host: HTMLElement, initial: string, onrun: () => void, onchange: (text: string) => void): SqlEditor {
  const root = host.shadowRoot ?? host.attachShadow({ mode: 'open' })
  const parent = document.createElement('div')
  parent.style.height = '100%'
  root.append(parent)
  const language = new Compartment()
  const dialect = (tables: SqlTable[]): Extension => [
    PostgreSQL.language.data.of({ autocomplete: namesOf(tables) }),
    sql({
      dialect: PostgreSQL,
      upperCaseKeywords: true,
      keywordCompletion: (label, type) => ({ label, type, boost: KEYWORD_BOOST }),
      schema: Object.fromEntries(
        tables.map((table) => [
          table.name,
          table.columns.map((column) => ({ label: column.name, type: 'property', detail: column.type, ...(column.description ? { info: column.description } : {}) })),
        ]),
      ),
    }),
  ]
  const view = new EditorView({
    root,
    parent,
    state: EditorState.create({
      doc: initial,
      extensions: [
        lineNumbers(), history(), bracketMatching(), closeBrackets(), autocompletion(), highlightActiveLine(), EditorView.lineWrapping,
        language.of(dialect([])), syntaxHighlighting(colours), look, tooltips({ parent }),
        EditorView.contentAttributes.of({ 'aria-label': 'SQL' }),
        keymap.of([{ key: 'Mod-Enter', run: () => (onrun(), true) }, ...completionKeymap, ...closeBracketsKeymap, ...historyKeymap, ...defaultKeymap]),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onchange(update.state.doc.toString())
        }),
      ],
    }),
  })
  return {
    text: () => view.state.doc.toString(),
    setText: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    setTables: (tables) => view.dispatch({ effects: language.reconfigure(dialect(tables)) }),
    insert: (text) => {
      view.dispatch(view.state.replaceSelection(text))
      view.focus()
    },
    destroy: () => {
      view.destroy()
      parent.remove()
    },
  }
}
