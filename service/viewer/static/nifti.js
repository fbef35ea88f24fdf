// NIfTI-1 as kdmri writes it: little-endian float32, axes (row, column, slice, volume), gzip, a JSON comment.

const FLOAT32 = 16;
const COMMENT = 6;

/**
 * Read the volumes and the figures of an answer.
 * @param {ArrayBuffer} packed - The body of an answer, a file .nii.gz.
 * @returns {Promise<{volumes: number, slices: number, rows: number, columns: number, spacing: number[],
 *   pixels: Float32Array, figures: object}>} `spacing` is the distance of rows and of columns in mm.
 * @throws {Error} It is not what kdmri writes.
 */
export async function read(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  const view = new DataView(bytes);
  const type = view.getInt16(70, true);
  if (view.getInt32(0, true) !== 348 || type !== FLOAT32) {
    throw new Error(`expected a NIfTI file of float32, got data type ${type}`);
  }
  const [, rows, columns, slices, volumes] = Array.from({ length: 5 }, (_, axis) => view.getInt16(40 + 2 * axis, true));
  const start = view.getFloat32(108, true);
  const spacing = [view.getFloat32(80, true), view.getFloat32(84, true)];
  const pixels = new Float32Array(bytes, start, rows * columns * slices * Math.max(volumes, 1));
  return { volumes, slices, rows, columns, spacing, pixels, figures: comment(view, start) };
}

function comment(view, end) {
  for (let place = 352; place + 8 <= end; place += view.getInt32(place, true)) {
    const length = view.getInt32(place, true);
    if (length < 16) break;
    if (view.getInt32(place + 4, true) === COMMENT) {
      const text = new TextDecoder().decode(new Uint8Array(view.buffer, place + 8, length - 8));
      return JSON.parse(text.replace(/\0+$/, ""));
    }
  }
  return {};
}

/**
 * Copy one slice of one volume, rows first. In the file rows vary fastest.
 * @returns {Float32Array} Pixels of shape (row, column).
 */
export function slice({ pixels, rows, columns, slices }, volume, number) {
  const start = (volume * slices + number) * rows * columns;
  const image = new Float32Array(rows * columns);
  for (let column = 0; column < columns; column += 1) {
    for (let row = 0; row < rows; row += 1) image[row * columns + column] = pixels[start + column * rows + row];
  }
  return image;
}
