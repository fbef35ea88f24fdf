// Panes with one slice, one window, one zoom: what is done to one is done to all.

import { slice } from "/page/nifti.js";

const DIFFERENCE = 3;
const STUDENT = 1;
const TEACHER = 2;
const COLOURS = ["#b7b7b7", "#7cc4ff", "#ffc46b"];
const BLINK_MILLISECONDS = 600;
const SAMPLE = 20000; // Pixels that are looked at to choose the first window.

export class Panes {
  constructor({ canvases, profile, onChange }) {
    this.canvases = canvases;
    this.profile = profile;
    this.onChange = onChange;
    this.data = null;
    this.mode = "panes";
    this.gain = 5;
    this.swipe = 0.5;
    this.blinking = null;
    this.shown = STUDENT;
    this.row = 0;
    for (const canvas of canvases) this.listen(canvas);
    new ResizeObserver(() => this.draw()).observe(canvases[0].parentElement.parentElement);
  }

  /** Show new data with a fresh view. */
  show(data) {
    this.data = data;
    this.number = Math.floor(data.slices / 2);
    this.row = Math.floor(data.rows / 2);
    this.reset();
  }

  reset() {
    this.zoom = 1;
    this.shift = [0, 0];
    const step = Math.max(1, Math.floor(this.data.pixels.length / SAMPLE));
    const sample = this.data.pixels.filter((_, place) => place % step === 0).sort();
    this.range = Math.max(sample[sample.length - 1], Number.MIN_VALUE);
    this.high = sample[Math.floor(sample.length * 0.995)] || this.range;
    this.low = 0;
    this.load();
  }

  load() {
    const images = [0, STUDENT, TEACHER].map((volume) => slice(this.data, volume, this.number));
    this.images = [...images, images[STUDENT].map((value, place) => value - images[TEACHER][place])];
    this.draw();
  }

  go(number) {
    if (!this.data) return;
    this.number = Math.min(Math.max(number, 0), this.data.slices - 1);
    this.load();
  }

  setMode(mode) {
    this.mode = mode;
    clearInterval(this.blinking);
    this.blinking = mode !== "blink" ? null : setInterval(() => {
      this.shown = this.shown === STUDENT ? TEACHER : STUDENT;
      this.draw();
    }, BLINK_MILLISECONDS);
    this.draw();
  }

  draw() {
    if (!this.data) return;
    for (const canvas of this.canvases) {
      const volume = Number(canvas.dataset.volume);
      const only = this.mode === "blink" ? this.shown : STUDENT;
      canvas.parentElement.classList.toggle("shown", volume === only);
      if (this.mode === "panes" || volume === only) this.paint(canvas, volume);
    }
    this.drawProfile();
    this.onChange(this);
  }

  /** Draw a volume's slice into a canvas at the present window, zoom and place. */
  paint(canvas, volume) {
    const { rows, columns, spacing } = this.data;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const source = new OffscreenCanvas(columns, rows);
    source.getContext("2d").putImageData(this.picture(volume), 0, 0);
    const context = canvas.getContext("2d");
    // Pixels need not be square: a row is as high as rows are apart.
    const tall = spacing[0] / spacing[1] || 1;
    const fit = Math.min(canvas.width / columns, canvas.height / (rows * tall)) * this.zoom;
    context.imageSmoothingEnabled = fit < 3;
    const [x, y] = [canvas.width / 2 + this.shift[0] * ratio, canvas.height / 2 + this.shift[1] * ratio];
    context.drawImage(source, x - (columns * fit) / 2, y - (rows * fit * tall) / 2, columns * fit, rows * fit * tall);
    canvas.geometry = { left: x - (columns * fit) / 2, top: y - (rows * fit * tall) / 2, fit, tall, ratio };
    if (this.mode === "swipe") {
      context.fillStyle = COLOURS[TEACHER];
      context.fillRect(canvas.geometry.left + this.swipe * columns * fit - ratio, 0, 2 * ratio, canvas.height);
    }
  }

  picture(volume) {
    const { rows, columns } = this.data;
    const picture = new ImageData(columns, rows);
    const words = new Uint32Array(picture.data.buffer);
    const width = Math.max(this.high - this.low, Number.MIN_VALUE);
    const border = this.mode === "swipe" ? this.swipe * columns : columns;
    for (let place = 0; place < words.length; place += 1) {
      const from = this.mode === "swipe" && place % columns >= border ? TEACHER : volume;
      const value = this.images[from][place];
      const share = volume === DIFFERENCE ? 0.5 + (this.gain * value) / width / 2 : (value - this.low) / width;
      const grey = Math.round(255 * Math.min(Math.max(share, 0), 1));
      words[place] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    return picture;
  }

  drawProfile() {
    const canvas = this.profile;
    canvas.width = canvas.clientWidth;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    const { columns } = this.data;
    for (const volume of [0, STUDENT, TEACHER]) {
      context.beginPath();
      context.strokeStyle = COLOURS[volume];
      for (let column = 0; column < columns; column += 1) {
        const share = (this.images[volume][this.row * columns + column] - this.low) / (this.high - this.low);
        context.lineTo((column / Math.max(columns - 1, 1)) * canvas.width, canvas.height * (1 - Math.min(Math.max(share, 0), 1.05) / 1.05));
      }
      context.stroke();
    }
  }

  /** Zoom in or out about the centre. */
  enlarge(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 40);
    this.draw();
  }

  /** Move the window's centre and change its width, as shares of the brightest pixel. */
  window(level, width) {
    const centre = (this.high + this.low) / 2 + level * this.range;
    const half = Math.max(((this.high - this.low) * Math.exp(width)) / 2, this.range * 1e-5);
    [this.low, this.high] = [centre - half, centre + half];
    this.draw();
  }

  listen(canvas) {
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!this.data) return;
      if (event.buttons === 2 || (event.buttons === 1 && event.shiftKey)) {
        this.shift = [this.shift[0] + event.movementX, this.shift[1] + event.movementY];
        this.draw();
      } else if (event.buttons === 1) {
        this.window(event.movementY / 800, event.movementX / 150);
      } else {
        this.point(canvas, event);
      }
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.enlarge(Math.exp(-event.deltaY / 400));
    }, { passive: false });
  }

  point(canvas, event) {
    const { top, fit, tall, ratio } = canvas.geometry ?? {};
    if (!fit) return;
    const row = Math.floor((event.offsetY * ratio - top) / (fit * tall));
    if (row < 0 || row >= this.data.rows || row === this.row) return;
    this.row = row;
    this.drawProfile();
    this.onChange(this);
  }
}
