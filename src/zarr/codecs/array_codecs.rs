//! The codecs on arrays that can be decoded: transposes, value-changing filters, `bytes`, pcodec and the like.

use super::byte_codecs;
use super::sharding;
use super::{Elements, Endian};
use crate::zarr::data_type::{DataType, ItemLayout};
use crate::zarr::json::Value;
use crate::zarr::splice;

/// What a codec from array to array does on the way back.
pub(super) enum Step {
    /// Axis `k` of the encoded array is this axis of the array.
    Transpose(Vec<usize>),
    /// Nothing: the loss was on the way in.
    Identity,
    /// This document, for zarrs.
    Codec {
        document: String,
        /// Whether it computes with values.
        computes: bool,
    },
}

fn name(codec: &Value<'_>) -> Result<String, String> {
    codec.extension_name().ok_or_else(|| format!("the codec {} has no name", codec.brief()))
}

pub(super) fn is_named(codec: &Value<'_>, names: &[&str]) -> bool {
    codec.extension_name().is_some_and(|name| names.contains(&name.as_str()))
}

pub(super) fn is_bytes(codec: &Value<'_>) -> bool {
    is_named(codec, &["bytes", "endian"])
}

/// The byte order that `bytes` gives the elements; little where the document leaves it out, as zarr-python reads it.
pub(super) fn endian(bytes: &Value<'_>, data_type: &DataType) -> Result<Option<Endian>, String> {
    if !data_type.has_endianness() {
        return Ok(None);
    }
    match bytes.configured("endian") {
        None => Ok(Some(Endian::Little)),
        Some(value) => match value.string().as_deref() {
            Some("little") => Ok(Some(Endian::Little)),
            Some("big") => Ok(Some(Endian::Big)),
            _ => Err(format!("codec bytes with the endian {} is not supported", value.brief())),
        },
    }
}

/// The byte order that the `bytes` codec gives, however deep in shards it is.
pub(super) fn innermost_endian(codecs: &[Value<'_>], data_type: &DataType) -> Result<Option<Endian>, String> {
    for codec in codecs {
        if is_bytes(codec) {
            return endian(codec, data_type);
        }
        if let Some(inner) = inner_codecs(codec) {
            return innermost_endian(inner, data_type);
        }
    }
    Ok(None)
}

fn inner_codecs<'v, 't>(codec: &'v Value<'t>) -> Option<&'v [Value<'t>]> {
    if !is_named(codec, &["sharding_indexed"]) {
        return None;
    }
    codec.configured("codecs")?.elements()
}

/// Whether decoding computes with values, so that it must know the type.
pub(super) fn needs_type(codecs: &[Value<'_>]) -> bool {
    codecs.iter().any(|codec| match inner_codecs(codec) {
        Some(inner) => needs_type(inner),
        None => is_named(
            codec,
            &["numcodecs.fixedscaleoffset", "numcodecs.pcodec", "packbits", "zfp", "zarrs.zfp", "numcodecs.zfpy"],
        ),
    })
}

/// Reads a codec from array to array; `rank` is that of the array that it is applied to.
pub(super) fn read_step(codec: &Value<'_>, rank: usize, data_type: &DataType) -> Result<Step, String> {
    let name = name(codec)?;
    match name.as_str() {
        "transpose" => Ok(Step::Transpose(transpose_order(codec, rank)?)),
        "bitround" | "numcodecs.bitround" => Ok(Step::Identity),
        "numcodecs.quantize" if keeps_type(codec) => Ok(Step::Identity),
        "numcodecs.fixedscaleoffset" => {
            let document = fixed_scale_offset(codec, data_type)
                .ok_or_else(|| format!("codec {name} with these parameters cannot be decoded to the last bit"))?;
            Ok(Step::Codec { document, computes: true })
        }
        _ => Err(format!("codec {name} is not supported")),
    }
}

/// Whether a filter stores values in the type that they have.
fn keeps_type(codec: &Value<'_>) -> bool {
    let spelled = |key| codec.configured(key).and_then(Value::string);
    spelled("astype").is_none_or(|astype| spelled("dtype").is_some_and(|dtype| dtype == astype))
}

/// Reads a transpose, the only codec on arrays that elements of any length can have.
pub(super) fn read_transpose(codec: &Value<'_>, rank: usize) -> Result<Vec<usize>, String> {
    match name(codec)?.as_str() {
        "transpose" => transpose_order(codec, rank),
        name => Err(format!("codec {name} is not supported")),
    }
}

fn transpose_order(codec: &Value<'_>, rank: usize) -> Result<Vec<usize>, String> {
    let order = codec.configured("order");
    let order: Option<Vec<usize>> = match order.and_then(Value::string).as_deref() {
        Some("C") => Some((0..rank).collect()),
        Some("F") => Some((0..rank).rev().collect()),
        _ => order
            .and_then(Value::as_lengths)
            .map(|axes| axes.into_iter().filter_map(|a| usize::try_from(a).ok()).collect()),
    };
    let order = order.filter(|order| order.len() == rank && (0..rank).all(|axis| order.contains(&axis)));
    order.ok_or_else(|| "codec transpose has an order that does not fit the array".to_owned())
}

/// zarrs computes this filter in single precision where numcodecs takes double: only the parameters for which
/// both give the same bits are let through.
fn fixed_scale_offset(codec: &Value<'_>, data_type: &DataType) -> Option<String> {
    let number = |key| codec.configured(key).and_then(Value::as_f64).filter(|x: &f64| f64::from(*x as f32) == *x);
    let (offset, scale) = (number("offset")?, number("scale")?);
    let spelled = |key| codec.configured(key).and_then(Value::string);
    let kind = |text: &str| text.trim_start_matches(['<', '|', '=']).to_owned();
    let wide = match &data_type.layout {
        ItemLayout::Float("float64") => true,
        ItemLayout::Float("float32") => false,
        _ => return None,
    };
    let (own, numpy_name) = if wide { ("f8", "float64") } else { ("f4", "float32") };
    if !spelled("dtype").is_none_or(|text| [own, numpy_name].contains(&kind(&text).as_str())) {
        return None;
    }
    let astype = match spelled("astype").map(|text| kind(&text)).as_deref() {
        Some("i1" | "int8") => "i1",
        Some("u1" | "uint8") => "u1",
        Some("i2" | "int16") => "i2",
        Some("u2" | "uint16") => "u2",
        _ => return None,
    };
    // Dividing in single precision and rounding a double quotient agree; adding to it does not.
    if scale == 0.0 || (!wide && offset != 0.0) {
        return None;
    }
    Some(format!(
        r#"{{"name":"numcodecs.fixedscaleoffset","configuration":{{"offset":{offset:?},"scale":{scale:?},"dtype":"<{own}","astype":"{}{astype}"}}}}"#,
        if astype.ends_with('1') { "|" } else { "<" },
    ))
}

/// The `bytes` codec as a document.
pub(crate) fn bytes_document(endian: Option<Endian>) -> String {
    match endian {
        Some(endian) => format!(r#"{{"name": "bytes", "configuration": {{"endian": "{}"}}}}"#, endian.name()),
        None => r#"{"name": "bytes"}"#.to_owned(),
    }
}

/// The whole chain as zarrs takes it; for a raw type (`raw`), `bytes` without an endianness.
pub(super) fn documents(
    codecs: &[Value<'_>],
    shape: &[u64],
    data_type: &DataType,
    raw: bool,
) -> Result<Vec<String>, String> {
    let mut documents = Vec::new();
    let mut shape = shape.to_vec();
    let mut remaining = codecs.iter();
    for codec in remaining.by_ref() {
        let name = name(codec)?;
        let to_bytes = match name.as_str() {
            "bytes" | "endian" => {
                let endian = endian(codec, data_type)?;
                Some(bytes_document(if raw { None } else { endian }))
            }
            "sharding_indexed" => Some(sharding::document(codec, &shape, data_type, raw)?),
            "packbits" | "numcodecs.pcodec" | "zfp" | "zarrs.zfp" | "numcodecs.zfpy" => {
                Some(numeric_document(&name, codec, data_type)?)
            }
            _ => None,
        };
        if let Some(document) = to_bytes {
            documents.push(document);
            for codec in remaining {
                let document = byte_codecs::normalise(codec, data_type.item_bytes())?;
                if byte_codecs::is_ours(&document) {
                    return Err(format!("codec {} is not supported after these codecs", self::name(codec)?));
                }
                documents.push(document);
            }
            return Ok(documents);
        }
        match read_step(codec, shape.len(), data_type)? {
            Step::Transpose(order) => {
                let axes: Vec<u64> = order.iter().map(|axis| *axis as u64).collect();
                documents
                    .push(format!(r#"{{"name":"transpose","configuration":{{"order":{}}}}}"#, splice::lengths(&axes)));
                shape = order.iter().filter_map(|axis| shape.get(*axis).copied()).collect();
            }
            Step::Identity => {}
            Step::Codec { document, computes } if computes != raw => documents.push(document),
            Step::Codec { .. } => {
                return Err(format!("codec {name} is not supported in this place"));
            }
        }
    }
    Err("no codec turns the array into bytes".to_owned())
}

/// Codecs from numbers to bytes.
fn numeric_document(name: &str, codec: &Value<'_>, data_type: &DataType) -> Result<String, String> {
    let supported = match (name, &data_type.layout) {
        ("numcodecs.pcodec", ItemLayout::Integer { bytes, .. }) => *bytes > 1,
        ("numcodecs.pcodec", ItemLayout::Float("float16" | "float32" | "float64")) => true,
        ("packbits", ItemLayout::Bool | ItemLayout::Integer { .. }) => true,
        ("packbits", ItemLayout::Float("float16" | "float32" | "float64" | "bfloat16")) => true,
        ("zfp" | "zarrs.zfp" | "numcodecs.zfpy", ItemLayout::Integer { bytes, signed, .. }) => {
            cfg!(feature = "zfp") && *signed && *bytes >= 4
        }
        ("zfp" | "zarrs.zfp" | "numcodecs.zfpy", ItemLayout::Float("float32" | "float64")) => {
            cfg!(feature = "zfp")
        }
        _ => false,
    };
    if !supported {
        let hint =
            if name.contains("zfp") && !cfg!(feature = "zfp") { " by this build (cargo feature zfp)" } else { "" };
        return Err(format!("codec {name} on data type {} is not supported{hint}", data_type.name));
    }
    let configuration = match name {
        // The stream describes itself.
        "numcodecs.pcodec" => "{}".to_owned(),
        _ => codec.get("configuration").filter(|c| c.is_object()).map_or("{}", |c| c.text()).to_owned(),
    };
    Ok(format!(r#"{{"name":"{name}","configuration":{configuration}}}"#))
}

/// The data type and fill value by the names under which zarrs computes with them.
pub(super) fn named_type(elements: Elements<'_>) -> Result<(String, String), String> {
    let hexadecimal = |component: &[u8]| {
        let digits: String = component.iter().rev().map(|byte| format!("{byte:02x}")).collect();
        format!("\"0x{digits}\"")
    };
    let fill = match &elements.data_type.layout {
        ItemLayout::Bool => if elements.fill == [0] { "false" } else { "true" }.to_owned(),
        ItemLayout::Integer { signed, .. } => {
            let negative = *signed && elements.fill.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut bytes = [if negative { 0xff } else { 0 }; 16];
            bytes.iter_mut().zip(elements.fill).for_each(|(to, from)| *to = *from);
            i128::from_le_bytes(bytes).to_string()
        }
        ItemLayout::Float("float16" | "float32" | "float64" | "bfloat16") => hexadecimal(elements.fill),
        _ => {
            return Err(format!("data type {} is not supported with these codecs", elements.data_type.name));
        }
    };
    Ok((splice::quote(&elements.data_type.name), fill))
}
