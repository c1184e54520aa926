// Composes the shop's pictures from Fluent Emoji 3D glyphs: `npm install && node compose.mjs [name ...]`.
// Reads pictures.json (picture name -> category, glyphs) and writes ../media/<name>.webp. The first glyph is the
// product; up to two more stand beside it, smaller. Same input, same picture: nothing here is random.
import { readFile, writeFile, mkdir, access } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import sharp from "sharp";

const SIDE = 640;
const BYTES_MAX = 25 * 1024;
const here = import.meta.dirname;
const assets = path.join(path.dirname(createRequire(import.meta.url).resolve("@lobehub/fluent-emoji-3d/package.json")), "assets");
const media = path.join(here, "..", "media");

// Hue in degrees and saturation in percent of each top category's background; leaves are told apart by a small turn of the hue.
const PALETTE = {
  food: [42, 78], kitchen: [24, 62], home: [34, 34], stationery: [48, 60], play: [268, 62], sports: [146, 42],
  tech: [212, 58], fashion: [340, 56], garden: [96, 42], care: [188, 48],
};

const categories = JSON.parse(await readFile(path.join(here, "../catalogue/categories.json"), "utf8"));
const hueOf = new Map();
for (const { handle, parent, position } of categories) {
  const [hue, saturation] = PALETTE[parent ?? handle];
  hueOf.set(handle, [hue + (parent ? (position - 3) * 9 : 0), saturation]);
}

async function glyphFile(glyph) {
  const points = [...glyph].map((c) => c.codePointAt(0).toString(16).padStart(4, "0")).join("-");
  for (const name of [points, points.replaceAll("-fe0f", ""), `${points}-fe0f`]) {
    const file = path.join(assets, `${name}.webp`);
    if (await access(file).then(() => true, () => false)) return file;
  }
  throw new Error(`the glyph set has no ${glyph} (${points})`);
}

// Trimming first makes every glyph fill its box alike: the set's own margins differ.
async function glyphImage(glyph, box) {
  const trimmed = await sharp(await glyphFile(glyph)).trim({ threshold: 8 }).toBuffer();
  const { data, info } = await sharp(trimmed).resize(box, box, { fit: "inside", kernel: "lanczos3" }).png().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

function background(hue, saturation, shadows) {
  const tone = (turn, light, factor = 1) => `hsl(${hue + turn} ${saturation * factor}% ${light}%)`;
  const ellipses = shadows.map(({ x, y, rx }) => `<ellipse cx="${x}" cy="${y}" rx="${rx}" ry="${rx * 0.13}" fill="url(#shade)"/>`).join("");
  return Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${SIDE}" height="${SIDE}">
    <defs>
      <linearGradient id="wall" x1="0" y1="0" x2="0.6" y2="1"><stop offset="0" stop-color="${tone(0, 96)}"/><stop offset="1" stop-color="${tone(-10, 87)}"/></linearGradient>
      <linearGradient id="floor" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="${tone(-12, 84, 0.9)}"/><stop offset="1" stop-color="${tone(-6, 91, 0.9)}"/></linearGradient>
      <radialGradient id="glow" cx="0.5" cy="0.46" r="0.46"><stop offset="0" stop-color="#fff" stop-opacity="0.75"/><stop offset="1" stop-color="#fff" stop-opacity="0"/></radialGradient>
      <radialGradient id="shade"><stop offset="0" stop-color="${tone(-14, 24, 0.6)}" stop-opacity="0.42"/><stop offset="0.55" stop-color="${tone(-14, 28, 0.6)}" stop-opacity="0.16"/><stop offset="1" stop-color="${tone(-14, 30, 0.6)}" stop-opacity="0"/></radialGradient>
    </defs>
    <rect width="100%" height="100%" fill="url(#wall)"/>
    <path d="M0 ${SIDE * 0.74} Q ${SIDE / 2} ${SIDE * 0.68} ${SIDE} ${SIDE * 0.74} V ${SIDE} H 0 Z" fill="url(#floor)"/>
    <rect width="100%" height="100%" fill="url(#glow)"/>${ellipses}</svg>`);
}

async function compose(name, { category, glyphs }) {
  const [hue, saturation] = hueOf.get(category);
  const alone = glyphs.length === 1;
  // Where each glyph stands: middle of its foot, and the box it is fitted into.
  const places = [
    alone ? { x: 320, foot: 520, box: 398 } : { x: glyphs.length === 2 ? 280 : 320, foot: 508, box: 360 },
    { x: 486, foot: 552, box: 176 },
    { x: 150, foot: 548, box: 160 },
  ];
  const layers = [], shadows = [];
  for (const [i, glyph] of glyphs.entries()) {
    const { x, foot, box } = places[i];
    const image = await glyphImage(glyph, box);
    // A flat glyph (a pencil case, a cap) is lifted so that it stays near the middle.
    const y = Math.round(foot - Math.max(0, (box - image.height) * 0.32));
    shadows.push({ x, y: y - 4, rx: image.width * 0.56 });
    layers.push({ input: image.data, left: Math.round(x - image.width / 2), top: Math.round(y - image.height) });
  }
  const canvas = await sharp(background(hue, saturation, shadows)).composite(layers).png().toBuffer();
  for (let quality = 82; quality >= 50; quality -= 6) {
    const webp = await sharp(canvas).webp({ quality, effort: 6 }).toBuffer();
    if (webp.length <= BYTES_MAX) return writeFile(path.join(media, `${name}.webp`), webp);
  }
  throw new Error(`${name}: larger than ${BYTES_MAX} bytes at the lowest quality`);
}

const pictures = JSON.parse(await readFile(path.join(here, "pictures.json"), "utf8"));
const wanted = process.argv.slice(2);
await mkdir(media, { recursive: true });
for (const [name, picture] of Object.entries(pictures)) {
  if (wanted.length === 0 || wanted.includes(name)) await compose(name, picture);
}
