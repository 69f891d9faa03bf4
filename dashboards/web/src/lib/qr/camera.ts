interface Detector {
  detect(source: CanvasImageSource): Promise<{ rawValue: string }[]>
}
interface DetectorClass {
  new (options: { formats: string[] }): Detector
  getSupportedFormats?: () => Promise<string[]>
}

export type Reader = (video: HTMLVideoElement) => Promise<string | undefined>

/** The browser's own reader where it has one, else a small decoder that is loaded only then. */
export async function qrReader(): Promise<Reader> {
  const native = (globalThis as { BarcodeDetector?: DetectorClass }).BarcodeDetector
  if (native) {
    const formats = (await native.getSupportedFormats?.().catch(() => [])) ?? []
    if (formats.includes('qr_code')) {
      const detector = new native({ formats: ['qr_code'] })
      return async (video) => (await detector.detect(video))[0]?.rawValue
    }
  }
  const { default: decode } = await import('jsqr')
  const canvas = document.createElement('canvas')
  return async (video) => {
    // Half a camera's resolution is plenty for a QR code and four times cheaper.
    const scale = Math.min(1, 640 / Math.max(1, video.videoWidth))
    canvas.width = Math.round(video.videoWidth * scale)
    canvas.height = Math.round(video.videoHeight * scale)
    const context = canvas.getContext('2d', { willReadFrequently: true })
    if (!context || canvas.width === 0) return undefined
    context.drawImage(video, 0, 0, canvas.width, canvas.height)
    const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height)
    return decode(data, width, height)?.data
  }
}

/** The camera at the back. Rejects when there is none or the person refuses it. */
export async function openCamera(): Promise<MediaStream> {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error('no camera')
  return navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false })
}
