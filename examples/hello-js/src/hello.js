// A page by the `fetch` event, as service workers have it.

import { open } from 'wasi:keyvalue/store@0.2.0-draft2';
import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft2';

addEventListener('fetch', event => event.respondWith(answer(event.request)));

async function answer(request) {
  const url = new URL(request.url);
  const name = url.searchParams.get('name') ?? 'visitor';
  // A document of the plugin's own, and part of the unit: a request that fails has not been counted.
  const visits = increment(open('visits'), url.pathname, 1n);
  console.log(`visit ${visits} of ${url.pathname}`);
  return new Response(`<p>Hello, ${escaped(name)}. You are number ${visits}.</p>`, {
    headers: { 'content-type': 'text/html; charset=utf-8' },
  });
}

function escaped(text) {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
}
