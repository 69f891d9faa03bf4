// The protocol of these scripts: JSON on standard input, JSON on standard output.
export async function asked() {
  let text = "";
  for await (const part of process.stdin) text += part;
  return JSON.parse(text);
}

export function answer(value) {
  process.stdout.write(JSON.stringify(value));
}
